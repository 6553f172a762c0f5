"""What `pip install` brings works from any folder, and brings nothing else."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

BUILT_FROM = ("pyproject.toml", "requirements.txt", "README.md", "LICENSE")


def run(*command, cwd, path="", succeeds=True):
    environment = {**os.environ, "PYTHONPATH": str(path), "TF_CPP_MIN_LOG_LEVEL": "3"}
    result = subprocess.run(list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True)
    assert result.returncode == 0 or not succeeds, result.stderr
    return result


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "copy"
    copy.mkdir()
    for name in BUILT_FROM:
        shutil.copy(REPOSITORY / name, copy)
    for name in ("jtln_tf", "tools", "flags", "tests", "benchmarks"):
        ignored = shutil.ignore_patterns("__pycache__")
        if (REPOSITORY / name).is_symlink():
            (copy / name).symlink_to((REPOSITORY / name).readlink())
        else:
            shutil.copytree(REPOSITORY / name, copy / name, ignore=ignored)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    built = run(*pip, "wheel", "--no-deps", "--wheel-dir", folder, ".", cwd=copy, succeeds=False)
    if "No matching distribution found for setuptools" in built.stderr:
        pytest.skip("building a wheel needs setuptools from a package index")
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    run(*pip, "install", "--no-deps", "--target", folder / "fresh", wheel, cwd=folder)
    (folder / "empty").mkdir()
    return folder / "fresh", folder / "empty"


@pytest.mark.slow
def test_the_wheel_holds_one_package_and_its_command(installed):
    fresh, empty = installed
    names = {path.name for path in fresh.iterdir()}
    assert {name for name in names if not name.endswith(".dist-info")} == {"jtln_tf", "bin"}
    found = run(sys.executable, "-c", "import jtln_tf; print(jtln_tf.__file__)", cwd=empty, path=fresh).stdout
    assert found.startswith(str(fresh))
    assert "--workdir" in run(sys.executable, "-m", "jtln_tf", "train", "--help", cwd=empty, path=fresh).stdout
    assert run(fresh / "bin" / "jtln", "--version", cwd=empty, path=fresh).stdout == "jtln_tf 0.1.0\n"
    assert "  export " in run(fresh / "bin" / "jtln", "--help", cwd=empty, path=fresh).stdout


@pytest.mark.slow
def test_a_preset_trains_from_an_empty_folder(installed):
    fresh, empty = installed
    options = ["--preset=digits", "--method=joint", "--steps=2", "--workdir=run", "--noexport", "--json"]
    assert '"steps": 2' in run(fresh / "bin" / "jtln", "train", *options, cwd=empty, path=fresh).stdout
    assert (empty / "run" / "result.json").is_file()
