"""HTML pages that need nothing but themselves: pictures are inside, there is no script, and no name is markup.

Pages are trees of elements, and the serializer escapes every text and attribute. Imports no TensorFlow.
"""

import base64
import io
import typing
from collections.abc import Iterable, Sequence
from xml.etree import ElementTree

from jtln_tf.files import escape_name

if typing.TYPE_CHECKING:
    from matplotlib.figure import Figure

Element = ElementTree.Element
_DOTS_PER_INCH = 110
_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; color: #1f2933; background: #f4f6f8; margin: 0; }
main { max-width: 1120px; margin: 0 auto; padding: 24px 20px 60px; }
h1 { font-size: 25px; line-height: 1.25; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 0 0 10px; }
section { background: #fff; border: 1px solid #dde3e9; border-radius: 8px; padding: 16px 20px; margin: 16px 0; }
p { margin: 6px 0 10px; } .quiet { color: #5f6c7b; } .warning { color: #9c4221; }
.cards { display: flex; flex-wrap: wrap; gap: 10px; margin: 16px 0; }
.card { background: #fff; border: 1px solid #dde3e9; border-radius: 8px; padding: 8px 14px; font-size: 13px; }
.card b { display: block; font-size: 24px; }
.scroll { overflow: auto; max-height: 560px; }
table { border-collapse: collapse; } th, td { text-align: left; padding: 3px 14px 3px 0; vertical-align: top; }
th { border-bottom: 1px solid #c5ced8; position: sticky; top: 0; background: #fff; }
td { border-bottom: 1px solid #eef1f4; overflow-wrap: anywhere; } td.number, th.number { text-align: right; }
pre { background: #f4f6f8; border-radius: 6px; padding: 10px; white-space: pre-wrap; overflow-wrap: anywhere; }
img.plot { max-width: 100%; height: auto; } img.image { border-radius: 4px; background: #e4e9ee; }
img.small { image-rendering: pixelated; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 14px; }
.grid div { font-size: 13px; line-height: 1.35; overflow-wrap: anywhere; }
.beside { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr)); gap: 14px; }
.pair img { margin: 0 3px 3px 0; vertical-align: middle; }
summary { cursor: pointer; }
"""


def element(tag: str, *children: Element | str | None, **attributes: object) -> Element:
    """Returns an element with its children in order; texts are shown as they are, whatever they hold.

    The attribute `css` is the class. Children that are None are left out.

    Examples:
        >>> to_text(element("p", "a <b> & ", element("b", "c"), css="quiet"))
        '<p class="quiet">a &lt;b&gt; &amp; <b>c</b></p>'
    """
    names = {"css": "class"}
    made = Element(tag, {names.get(name, name): _clean(str(value)) for name, value in attributes.items()})
    for child in children:
        if isinstance(child, Element):
            made.append(child)
        elif child is not None and len(made):
            made[-1].tail = (made[-1].tail or "") + _clean(child)
        elif child is not None:
            made.text = (made.text or "") + _clean(child)
    return made


def to_text(tree: Element) -> str:
    """Returns the HTML of an element."""
    return ElementTree.tostring(tree, encoding="unicode", method="html")


def build_page(title: str, *children: Element | None) -> str:
    """Returns the HTML of a whole page."""
    style = Element("style")
    # Its content is no text for the serializer; it is ours alone.
    style.text = _STYLE
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        style,
    )
    return (
        f"<!DOCTYPE html>\n{to_text(element('html', head, element('body', element('main', *children)), lang='en'))}\n"
    )


def section(title: str, *children: Element | str | None) -> Element:
    """Returns a framed part of a page under a heading."""
    return element("section", element("h2", title), *children)


def paragraph(*children: Element | str, css: str = "quiet") -> Element:
    """Returns a paragraph, by default an explanation."""
    return element("p", *children, css=css)


def cards(values: dict[str, str]) -> Element:
    """Returns figures in large letters, each over what it is."""
    return element(
        "div", *(element("div", element("b", one), name, css="card") for name, one in values.items()), css="cards"
    )


def table(heads: Sequence[str], rows: Iterable[Sequence[Element | str]], numbers: Sequence[int] = ()) -> Element:
    """Returns a table that scrolls if it is long; `numbers` are the columns that are set right."""

    def line(tag, cells):
        styles = [{"css": "number"} if place in numbers else {} for place in range(len(cells))]
        return element("tr", *(element(tag, cell, **style) for cell, style in zip(cells, styles, strict=True)))

    parts = [element("thead", line("th", heads))] if heads else []
    parts.append(element("tbody", *(line("td", row) for row in rows)))
    return element("div", element("table", *parts), css="scroll")


def plot(figure: "Figure", description: str) -> Element:
    """Returns a picture of a matplotlib figure; the description stands for it where it cannot be seen."""
    return picture(draw_png(figure), description)


def picture(content: bytes, description: str) -> Element:
    """Returns a picture of the content of a PNG file; the description stands for it where it cannot be seen."""
    return element("img", src=embed(content, "png"), alt=description, css="plot")


def draw_png(figure: "Figure") -> bytes:
    """Returns the content of a PNG file of a matplotlib figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DOTS_PER_INCH)
    return buffer.getvalue()


def embed(content: bytes, kind: str) -> str:
    """Returns an address that holds an encoded image itself."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _clean(text):
    # Such as half a pair of surrogates, which no file can hold, and marks that turn the direction of writing.
    return "".join(escape_name(text, lambda character: character.isprintable() or character == "\n"))
