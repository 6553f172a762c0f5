"""Reads pages as a browser does: elements, texts, pictures and links."""

import base64
import html.parser
import io

from PIL import Image

_VOID = {"meta", "img", "br"}


class PageReader(html.parser.HTMLParser):
    """The elements, texts, pictures and links of a page; elements that do not close each other are an error."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.pictures, self.links, self._open = [], [], {}, [], []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        assert len(attributes) == len(attrs) and not [name for name in attributes if name.startswith("on")]
        self.tags.append(tag)
        if tag == "img":
            kind, content = attributes["src"].split(";base64,")
            assert kind in ("data:image/png", "data:image/jpeg")
            image = Image.open(io.BytesIO(base64.b64decode(content, validate=True)))
            image.load()
            self.pictures.setdefault(attributes["alt"], []).append(image)
        else:
            assert "src" not in attributes and "style" not in attributes
        if tag == "a":
            self.links.append(attributes["href"])
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open[-1:] != ["style"]:
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(self.texts)
