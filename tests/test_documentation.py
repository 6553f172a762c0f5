"""What the documents say must work: their Python runs, their commands name programs and flags that exist."""

import os
import re
import shlex
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

DOCUMENTS = [REPOSITORY / "README.md", REPOSITORY / "BUILD.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
PRESETS = sorted((REPOSITORY / "flags" / "presets").glob("*.flags"))


def blocks(document, language):
    return re.findall(rf"```{language}\n(.*?)```", document.read_text(), re.DOTALL)


def commands():
    """`(document, arguments)` of every documented call of a program."""
    for document in DOCUMENTS:
        for block in blocks(document, "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if "-m" in words and words[words.index("-m") + 1].startswith(("tools.", "benchmarks.")):
                    yield document.name, words[words.index("-m") + 1 :]


@pytest.mark.parametrize(("document", "words"), list(commands()), ids=lambda value: " ".join(value)[:60])
def test_documented_commands_name_programs_and_flags_that_exist(document, words):
    program, *arguments = words
    result = subprocess.run(
        [sys.executable, "-m", program, "--help"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    known = set(re.findall(r"--(?:\[no\])?(\w+)", result.stdout))
    for argument in arguments:
        if argument.startswith("--"):
            name = argument[2:].partition("=")[0]
            assert name in known or name.removeprefix("no") in known, f"{document}: {argument}"


@pytest.mark.parametrize("name", set(re.findall(r"`--(\w+)", "".join(path.read_text() for path in DOCUMENTS))))
def test_flags_named_in_the_text_exist(name):
    texts = [path.read_text() for folder in ("tools", "benchmarks") for path in (REPOSITORY / folder).glob("*.py")]
    texts.append((REPOSITORY / "jtln_tf" / "config" / "experiment.py").read_text())
    own = {"help", "check", "flagfile"}
    names = (name, name.removeprefix("no"))
    assert name in own or any(f'"{one}"' in text or f"    {one}: " in text for text in texts for one in names)


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_presets_hold_valid_options_and_stand_in_the_docs(preset):
    code = (
        "import sys\n"
        "from absl import flags as absl_flags\n"
        "from flags import config_from_flags, define_config_flags\n"
        "define_config_flags()\n"
        "absl_flags.FLAGS(sys.argv)\n"
        "config_from_flags().require_domains()\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code, f"--flagfile={preset}"], cwd=REPOSITORY, check=True)
    assert f"| `{preset.stem}` |" in (REPOSITORY / "docs" / "data.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("block", blocks(REPOSITORY / "README.md", "python"))
def test_python_of_the_readme_runs(block, tmp_path):
    result = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", block],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert float(result.stdout.splitlines()[-1]) > 0.6
    assert (tmp_path / "export" / "classes.json").exists()


def test_relative_links_lead_to_files():
    for document in DOCUMENTS:
        for link in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
            if "://" not in link:
                assert (document.parent / link).exists(), f"{document.name}: {link}"


def test_no_placeholder_is_left():
    for document in DOCUMENTS:
        assert not re.findall(r"\b[A-Z0-9]+_(?:TIME|TABLE|TEXT)\b", document.read_text()), document.name
