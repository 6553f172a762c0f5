"""MkDocs hook: takes the files outside of docs/ that pages link to into the manual.

A link such as `../jtln_tf/methods/joint.py` works on a page of a Git host. In the manual it leads to a page with the
text of that file, so that it needs no public address of the repository. MkDocs checks these links like all others.
"""

import pathlib
import re

from mkdocs.structure.files import File, InclusionLevel

_DOCS = pathlib.Path(__file__).parent
_LINK = re.compile(r"(?<=\]\()\.\./([^)#\s]+)")


def on_files(files, config):
    """Adds a page for each existing file outside of docs/ that a page links to."""
    texts = [path.read_text("utf-8") for path in _DOCS.glob("*.md")]
    for path in sorted({path for text in texts for path in _LINK.findall(text)}):
        file = _DOCS.parent / path
        if file.is_file():
            page = f"# `{path}`\n\n~~~~{file.suffix.lstrip('.')}\n{file.read_text('utf-8')}\n~~~~\n"
            files.append(File.generated(config, _page_of(path), content=page, inclusion=InclusionLevel.NOT_IN_NAV))
    return files


def on_page_markdown(markdown, **_):
    """Leads links out of docs/ to these pages."""
    return _LINK.sub(lambda found: _page_of(found[1]), markdown)


def _page_of(path):
    return f"repository/{path}.md"
