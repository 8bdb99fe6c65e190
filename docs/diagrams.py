# SPDX-License-Identifier: MIT
"""Draws the state diagrams of docs/fates.md: ``python docs/diagrams.py``."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from pathlib import Path

ASSETS = Path(__file__).parent / "assets"

STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1c2b33; }
text.state { font-weight: 600; text-anchor: middle; }
text.note { font-size: 11.5px; fill: #4a5b64; text-anchor: middle; }
text.label { font-size: 11.5px; fill: #33444d; }
rect.paper { fill: #fbfcfc; stroke: #d5dde0; }
rect.state { fill: #e3f1ef; stroke: #2d7d74; stroke-width: 1.3; }
rect.good { fill: #dcf2df; stroke: #2f8f46; }
rect.bad { fill: #fbe3dd; stroke: #c2512f; }
rect.unsure { fill: #fcf0cf; stroke: #b98a12; }
path { fill: none; stroke: #51656f; stroke-width: 1.3; }
"""

HEIGHT = 46  # px of a state


@dataclass
class Diagram:
    """States and the arrows between them, in px."""

    title: str
    width: int
    height: int
    parts: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def state(self, x: int, y: int, width: int, name: str, note: str = "", kind: str = "") -> None:
        """A box whose middle is at x, y."""
        left, top = x - width // 2, y - HEIGHT // 2
        self.parts.append(
            f'<rect class="state {kind}" x="{left}" y="{top}" width="{width}" height="{HEIGHT}" rx="7"/>'
        )
        self.texts.append(f'<text class="state" x="{x}" y="{y - 2 if note else y + 5}">{escape(name)}</text>')
        if note:
            self.texts.append(f'<text class="note" x="{x}" y="{y + 14}">{escape(note)}</text>')

    def arrow(self, points: str, label: str, x: int, y: int, anchor: str = "middle") -> None:
        """Along points, ``"x,y x,y"``; its label at x, y. Lines of the label are separated by ``|``."""
        self.parts.append(f'<path marker-end="url(#tip)" d="M{points.replace(" ", " L")}"/>')
        for number, line in enumerate(label.split("|")):
            self.texts.append(
                f'<text class="label" text-anchor="{anchor}" x="{x}" y="{y + 14 * number}">'
                f"{escape(line)}</text>"
            )

    def svg(self) -> str:
        """The picture."""
        tip = (
            '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
            'orient="auto"><path d="M0.5,0.5 L7.5,4 L0.5,7.5 z" style="fill:#51656f;stroke:none"/></marker>'
        )
        return "\n".join(
            [
                '<svg xmlns="http://www.w3.org/2000/svg" role="img" '
                f'viewBox="0 0 {self.width} {self.height}">',
                f"<title>{escape(self.title)}</title><style>{STYLE}</style><defs>{tip}</defs>",
                f'<rect class="paper" width="{self.width}" height="{self.height}" rx="8"/>',
                *self.parts,
                *self.texts,
                "</svg>\n",
            ]
        )


def fates() -> Diagram:
    """A request, from the decision to what is known of its order."""
    d = Diagram("What becomes of a request: states and fates", 900, 440)
    d.state(200, 70, 170, "decided", "a call, fire(), pull()")
    d.state(510, 70, 180, "on the wire", "bytes are with the kernel")
    d.state(200, 200, 170, "waiting", "cancels only")
    d.state(200, 370, 170, "NotSent", "no byte ever leaves", "bad")
    d.state(790, 70, 180, "acknowledged", "code 200", "good")
    d.state(790, 200, 180, "Rejected", "any other code", "bad")
    d.state(510, 370, 200, "OutcomeUnknown", "it may have arrived", "unsure")
    d.state(790, 370, 180, "truth", "CANCELLED, FILLED, …")
    d.arrow("285,63 420,63", "written", 352, 56)
    d.arrow("200,93 200,177", "no connection,|on_disconnect=“retry”", 208, 130, "start")
    d.arrow("285,200 390,200 390,80 420,80", "connected:|signed now", 382, 170, "end")
    d.arrow("200,223 200,347", "retry_within is over", 208, 290, "start")
    d.arrow("115,70 95,70 95,370 115,370", "no connection,|or unsent|data waits", 88, 205, "end")
    d.arrow("600,70 700,70", "yes", 650, 62)
    d.arrow("555,93 555,200 700,200", "no", 650, 192)
    d.arrow("470,93 470,347", "timeout, connection lost,|or neither yes nor no", 478, 270, "start")
    d.arrow("610,370 700,370", "order updates", 655, 362)
    d.arrow("790,223 790,347", "420: order updates", 782, 290, "end")
    d.texts.append(
        '<text class="note" x="450" y="425">wrong arguments: InvalidRequest, before anything is signed</text>'
    )
    return d


def connection() -> Diagram:
    """A link, for as long as there is a client."""
    d = Diagram("A connection: its states", 900, 300)
    d.state(120, 80, 170, "connecting", "dns, connect, tls, upgrade")
    d.state(450, 80, 150, "open", "", "good")
    d.state(780, 80, 190, "draining", "its last replies come in")
    d.state(120, 230, 170, "waiting", "backoff, full jitter", "unsure")
    d.state(780, 230, 190, "closed", "", "bad")
    d.arrow("205,80 375,80", "accepted", 290, 72)
    d.arrow("525,80 685,80", "rotate_after: its|successor is open", 605, 58)
    d.arrow("95,103 95,207", "refused", 87, 160, "end")
    d.arrow("145,207 145,103", "pause over", 153, 160, "start")
    d.arrow("420,103 420,220 205,220", "lost, held for less than 1 s", 312, 212)
    d.arrow("420,57 420,25 120,25 120,57", "lost, after it had held", 270, 18)
    d.arrow("205,240 685,240", "reconnect_attempts are used up", 445, 258)
    d.arrow("480,103 480,220 685,220", "close()", 582, 212)
    d.arrow("780,103 780,207", "empty", 788, 160, "start")
    return d


def main() -> None:
    """Write both."""
    for name, diagram in (("fates", fates()), ("connection", connection())):
        (ASSETS / f"{name}.svg").write_text(diagram.svg(), encoding="utf-8")


if __name__ == "__main__":
    main()
