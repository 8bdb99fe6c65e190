# SPDX-License-Identifier: MIT
"""What MkDocs cannot do by itself: the pages that lie beside docs/, and links between them and it.

Links are written as they work in the repository (``../SECURITY.md`` from here, ``docs/speed.md`` from
the README's side), and turned here into those of the site.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent

BESIDE = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "README.md": "index.md",
    "SECURITY.md": "reporting.md",
}
"""Files of the repository, and the pages of the site that they are; the README has its like in index.md."""

_LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<target>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")
_HEADING = re.compile(r"^# (.+)$", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Add what lies beside docs/."""
    for name, page in BESIDE.items():
        if page not in files.src_uris:
            files.append(File.generated(config, page, content=(ROOT / name).read_text(encoding="utf-8")))
    return files


def title_of(path: Path) -> str:
    """The heading of a page."""
    heading = _HEADING.search(path.read_text(encoding="utf-8"))
    return heading[1] if heading else path.stem


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Turn links of the repository into those of the site; one called by its file gets the title of that."""
    folder = (ROOT / "docs" / page.file.src_uri).parent
    generated = page.file.src_uri in BESIDE.values() and page.file.src_uri != "index.md"

    def site_link(match: re.Match[str]) -> str:
        text, target, anchor = match["text"], match["target"], match["anchor"] or ""
        file = (ROOT if generated else folder) / target
        if text.endswith(".md") and file.is_file():
            text = "How to report a hole" if file.name == "SECURITY.md" else title_of(file)
        if generated and target.startswith("docs/"):
            target = target.removeprefix("docs/")
        elif generated:
            target = BESIDE.get(target, target)
        elif target.startswith("../"):
            target = BESIDE.get(target.removeprefix("../"), target)
        return f"[{text}]({target}{anchor})"

    if page.file.src_uri == "reporting.md":  # beside security.md, of which SECURITY.md has the name
        markdown = _HEADING.sub("# How to report a hole", markdown, count=1)
    return _LINK.sub(site_link, markdown)
