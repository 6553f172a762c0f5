"""What the documents say must work: their Python runs, their commands name programs and flags that exist."""

import ast
import functools
import json
import os
import re
import shlex
import subprocess
import sys
import types

import pytest
import yaml
from PIL import Image

import jtln_tf as jt
from jtln_tf.tools.command import VERBS
from tests.conftest import REPOSITORY, make_image_folder

README, BUILD = REPOSITORY / "README.md", REPOSITORY / "BUILD.md"
DOCUMENTS = [README, BUILD, *sorted((REPOSITORY / "docs").glob("*.md"))]
FILES = sorted((REPOSITORY / "benchmarks").glob("*.py"))
PROGRAMS = [*VERBS, *(f"benchmarks.{path.stem}" for path in FILES if "__main__" in path.read_text())]
# Pages whose commands need no data but the folders that they name.
TUTORIALS = ["index", "quick_start", "own_data", "choosing_costs", "when_it_helps", "how_it_works"]
# What makes them shorter here.
SHORTER = {
    "--preset=digits --": "--preset=digits --steps=110 --steps_per_epoch=55 --",
    # More processes would each load TensorFlow and the backbone.
    "jtln compare ": "jtln compare --seeds=1 --jobs=1 ",
}


def blocks(document, language):
    return re.findall(rf"```{language}\n(.*?)```", document.read_text(), re.DOTALL)


def run(*arguments, **options):
    options = {"cwd": REPOSITORY, **options}
    result = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, **options)
    assert result.returncode == 0, result.stderr
    return result.stdout


@functools.cache
def flags_of(program):
    module = ["jtln_tf", program] if program in VERBS else [program]
    found = re.findall(r"^ .*?--(?:\[no\])?(\w+):", run("-m", *module, "--helpfull"), re.MULTILINE)
    return {*found, *(f"no{name}" for name in found), "preset", "flagfile"}


def test_documented_commands_name_programs_and_flags_that_exist():
    texts = [block.replace("\\\n", " ") for document in DOCUMENTS for block in blocks(document, "bash")]
    lines = re.findall(r".*(?:\bjtln [a-z]| -m benchmarks\.).*", "\n".join(texts))
    assert len(lines) > 20
    for line in lines:
        program, *arguments = shlex.split(re.split(r"\bjtln | -m ", line, maxsplit=1)[1], comments=True)
        if "--" in arguments:
            # What stands behind it is another verb with its own flags.
            place = arguments.index("--")
            arguments, (program, *arguments) = arguments[:place], arguments[place + 1 :]
        given = {argument[2:].partition("=")[0] for argument in arguments if argument.startswith("--")}
        assert not given - flags_of(program), line


def test_flags_named_in_the_text_exist():
    named = set(re.findall(r"`--(\w+)", "".join(path.read_text() for path in DOCUMENTS)))
    assert not named - set().union(*map(flags_of, PROGRAMS))


def test_presets_hold_valid_options_and_stand_in_the_docs():
    presets = sorted((REPOSITORY / "flags" / "presets").glob("*.flags"))
    code = (
        "import sys, absl.flags\nfrom jtln_tf import flags\n"
        "for preset in sys.argv[1:]:\n"
        "    values = absl.flags.FlagValues()\n"
        "    flags.define_config_flags(values)\n"
        "    values(['train', f'--flagfile={preset}'])\n"
        "    flags.config_from_flags(flag_values=values).require_domains()\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    run("-c", code, *presets)
    table = (REPOSITORY / "docs" / "data.md").read_text()
    assert presets and not [path.stem for path in presets if f"| `{path.stem}` |" not in table]


@pytest.mark.slow
def test_python_of_the_readme_runs(tmp_path):
    (block,) = blocks(README, "python")
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TF_CPP_MIN_LOG_LEVEL": "3"}
    assert float(run("-W", "error::UserWarning", "-c", block, cwd=tmp_path, env=env).splitlines()[-1]) > 0.6
    assert (tmp_path / "export" / "1" / "saved_model.pb").exists()


@pytest.mark.slow
def test_examples_of_what_can_be_added_run(tmp_path, monkeypatch):
    for block in blocks(BUILD, "python"):
        # Each begins with its path; a file of tests follows the file that it tests.
        name = block.split()[1].removesuffix(".py").replace("/", ".")
        monkeypatch.setitem(sys.modules, name, module := types.ModuleType(name))
        exec(compile(block, name, "exec"), vars(module))
        for test in [value for key, value in vars(module).items() if key.startswith("test_")]:
            test(*[tmp_path] * test.__code__.co_argcount)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["digits", "photos"])
def test_commands_of_the_tutorials_run(kind, tmp_path):
    """In the order of the pages: each goes on with what those before have written."""
    make_image_folder(tmp_path / "photos" / "many", ["a", "b", "c", "d"], 12, side=40, mode="RGB")
    make_image_folder(tmp_path / "photos" / "few", ["w", "x", "y"], 10, side=40, mode="RGB", seed=1)
    for name in ("new/1.jpg", "bin/jtln"):
        (tmp_path / name).parent.mkdir()
    Image.new("RGB", (64, 48), "red").save(tmp_path / "new" / "1.jpg")
    (tmp_path / "bin" / "jtln").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m jtln_tf "$@"\n')
    (tmp_path / "bin" / "jtln").chmod(0o755)
    path = f"{tmp_path}/bin{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"}
    texts = [block for name in TUTORIALS for block in blocks(REPOSITORY / "docs" / f"{name}.md", "bash")]
    lines = dict.fromkeys(re.findall(r"^jtln .*", "\n".join(texts).replace("\\\n", " "), re.MULTILINE))
    assert len(lines) >= 12
    for line in [line for line in lines if ("digits" in line) == (kind == "digits")]:
        for long, short in SHORTER.items():
            line = line.replace(long, short)
        done = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}\n{done.stderr}"


def slugs(text):
    """Anchors of the headings, as a Git host makes them."""
    headings = re.findall(r"^#+ (.*)", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_relative_links_lead_to_files_and_headings():
    for document in DOCUMENTS:
        for link, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", document.read_text()):
            if "://" in link:
                continue
            file = document.parent / link if link else document
            assert file.exists(), f"{document.name}: {link}"
            assert not anchor or anchor in slugs(file.read_text()), f"{document.name}: {link}#{anchor}"


def test_lists_begin_after_a_blank_line():
    """Not all that shows Markdown would take them for lists otherwise."""
    for document in DOCUMENTS:
        text = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)
        assert not re.findall(r"^(?![-#|]|\d+\.)\S.*\n(?:[-*]|\d+\.) .*", text, re.MULTILINE), document.name


def message_templates():
    """Texts of the package, `...` for what is filled in."""
    for path in sorted((REPOSITORY / "jtln_tf").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                yield "".join(str(one.value) if isinstance(one, ast.Constant) else "..." for one in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield re.sub(r"%[-.\d]*[a-z]", "...", node.value)


def test_the_package_gives_the_messages_that_have_a_remedy():
    page = (REPOSITORY / "docs" / "errors.md").read_text()
    messages = [found[1].strip() for found in re.findall(r"^\| (`+)(.+?)\1 \| .+ \| .+ \|$", page, re.MULTILINE)]
    templates = list(message_templates())
    assert len(messages) >= 30
    assert not [message for message in messages if not any(message in template for template in templates)]


def test_the_manual_describes_every_public_name():
    described = re.findall(r"^::: (\S+)$", (REPOSITORY / "docs" / "api.md").read_text(), re.MULTILINE)
    assert sorted(described) == sorted(f"jtln_tf.{module}.{name}" for name, module in jt._MODULES.items())


def test_figures_of_when_transfer_helps_are_those_of_the_results():
    pages = [(REPOSITORY / "docs" / f"{name}.md").read_text() for name in ("when_it_helps", "results")]
    rows = re.findall(r"^\| [^|*]+ \(`(\w+)`\) \| (\d+) \| (.*?) \| \|$", pages[0], re.MULTILINE)
    assert len(rows) > 5
    for pair, count, figures in rows:
        # The first table has the accuracies.
        published = re.search(rf"^\| {pair} \| {count} \| (.*) \|$", pages[1], re.MULTILINE)[1].replace("**", "")
        assert set(figures.split(" | ")) <= set(published.split(" | ")), pair


def test_manifests_of_clusters_name_flags_that_exist_and_shells_can_read_them():
    folder = REPOSITORY / "docs" / "cluster"
    script, manifest = (folder / "train.slurm").read_text(), (folder / "job.yaml").read_text()
    in_pod = "\n".join(line[14:] for line in manifest.split("- |\n")[1].splitlines() if line.startswith(" " * 14))
    for text in (script, in_pod):
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)
        command = next(line for line in text.splitlines() if " train " in line and not line.startswith("#"))
        assert set(re.findall(r"--(\w+)=", command.partition(" train ")[2])) <= flags_of("train")
    numbered = {"WORKERS": "2", "JOB_COMPLETION_INDEX": "1", "PATH": "/usr/bin:/bin"}
    code = in_pod.partition("resume=")[0] + 'echo "$TF_CONFIG"'
    shown = subprocess.run(["bash", "-c", code], env=numbered, capture_output=True, text=True, check=True).stdout
    expected = {"cluster": {"worker": ["jtln-0.jtln:12345", "jtln-1.jtln:12345"]}}
    assert json.loads(shown) == expected | {"task": {"type": "worker", "index": 1}}
    service, job = yaml.safe_load_all(manifest)
    pod = job["spec"]["template"]["spec"]
    assert pod["subdomain"] == service["metadata"]["name"] and job["spec"]["completionMode"] == "Indexed"
    assert pod["containers"][0]["env"][0]["value"] == str(job["spec"]["completions"])
