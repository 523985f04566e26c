"""``mammi vlms fit`` as a user types it."""

from typer.testing import CliRunner

from mammi.cli import app


def run(*arguments, code=0):
    result = CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "200"})
    assert result.exit_code == code, result.output
    return result


def test_fit_and_check_by_commands(films, network, sentences_folder, tmp_path):
    said = (
        *("vlms", "fit", "--target", f"{network / 'net.py'}:Net", "--weights", network / "net.pt"),
        *("--layers", "first,second", "--images", films / "images", "--table", films / "labels.csv"),
        *("--modality", "drawn films", "--corpus", "drawn discs", "--sentences", sentences_folder),
    )
    fitted = run(*said, "--out", tmp_path / "mine")
    assert "AUROC on the patients held out in turn" in fitted.stdout
    checked = run(
        *("vlms", "check", f"fitted:{tmp_path / 'mine'}", "--images", films / "images"),
        *("--labels", films / "labels.csv", "-o", tmp_path / "c.json"),
    )
    assert "drawn discs" in checked.stdout
    assert "120 films of 40 patients" in checked.stdout
    again = run(*said, "--out", tmp_path / "mine", code=2)
    assert "is not empty" in again.stderr
