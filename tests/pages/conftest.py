"""One small run for all tests of pages, and addresses of a face that is none."""

import pytest

from mammi.pages import RunView, Site
from small_run import write_small_run


class PlainLinks:
    def page(self, *place):
        return "/".join(map(str, place))

    def twin(self, *place):
        return f"{self.page(*place)}.json"

    def picture(self, film):
        return f"picture/{film}"

    def asset(self, name):
        return name


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages") / "run"
    write_small_run(folder)
    return folder


@pytest.fixture
def view(folder):
    from mammi.store import open_run

    return RunView(open_run(folder))


@pytest.fixture
def site(view):
    return Site(view.name, PlainLinks(), with_images=True)
