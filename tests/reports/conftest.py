"""A report folder of the small run, with pictures, and one without."""

import pytest

from mammi.reports import write_report_folder
from small_run import write_small_run


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    return write_small_run(tmp_path_factory.mktemp("reports") / "run")


@pytest.fixture(scope="session")
def report(run, tmp_path_factory):
    return write_report_folder(run, tmp_path_factory.mktemp("shown") / "report", with_images=True)


@pytest.fixture(scope="session")
def plain(run, tmp_path_factory):
    return write_report_folder(run, tmp_path_factory.mktemp("plain") / "report")
