"""The frame of a page and its tables. Everything that comes from data is escaped here or where it is placed."""

import html
from collections.abc import Sequence

_STYLE = """
:root{color-scheme:light;--ink:#1c2430;--soft:#5b6675;--line:#d9dfe6;--panel:#f6f8fa;--bar:#2f6f9f}
*{box-sizing:border-box}
body{font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;color:var(--ink);background:#fff;
max-width:1120px;margin:0 auto;padding:24px 20px 64px}
h1{font-size:24px;margin:0 0 12px}h2{font-size:18px;margin:36px 0 8px;padding-top:12px;border-top:1px solid var(--line)}
h3{font-size:13px;margin:0 0 4px;color:var(--soft);text-transform:uppercase;letter-spacing:.05em}
p{margin:6px 0}.note{color:var(--soft);font-size:13px}
.banner{background:#fff4ce;border:1px solid #e3c565;border-radius:6px;padding:8px 12px}
.wide{overflow-x:auto}
table{border-collapse:collapse;margin:10px 0;font-variant-numeric:tabular-nums;font-size:14px}
td,th{border-bottom:1px solid var(--line);padding:4px 12px 4px 0;text-align:left;white-space:nowrap}
th{color:var(--soft);font-weight:600}
.lost{color:#9c1c1c;font-weight:600}
.numbers{display:flex;flex-wrap:wrap;gap:12px;margin:16px 0}
.number{background:var(--panel);border:1px solid var(--line);border-radius:8px;padding:10px 14px;min-width:150px}
.number b{display:block;font-size:24px;line-height:1.2}.number span{font-size:12px;color:var(--soft);display:block}
svg{max-width:100%;height:auto;display:block}
svg text{font:13px system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;fill:var(--ink)}
svg .soft{fill:var(--soft);font-size:12px}
.case{border:1px solid var(--line);border-radius:8px;padding:14px;margin:14px 0;display:flex;gap:18px;flex-wrap:wrap}
.case .pictures{flex:0 0 auto;max-width:100%}.case .words{flex:1 1 380px;min-width:260px}
.case .score{font-size:13px;color:var(--soft);flex:1 0 100%;margin:-2px 0 -8px}
.words section{margin-bottom:12px}
figure{margin:0 8px 8px 0;display:inline-block;width:240px;vertical-align:top}
img{width:240px;display:block;background:#000;border-radius:4px}figcaption{font-size:12px;color:var(--soft)}
mark{background:none;color:inherit;padding:0 1px;border-radius:3px}
mark small{font-size:11px;font-weight:600;margin-left:3px;white-space:nowrap}
.found{border-bottom:2px solid #4b9a63}
.missed{background:#fde2c8}.missed small{color:#8a4300}
.invented{background:#f9d0d0}.invented small{color:#9c1c1c}
.wrong-side{background:#e3d5f7}.wrong-side small{color:#5a2ca0}
.key mark{margin-right:14px;padding:1px 6px;font-size:13px}
ul.controls{padding-left:18px}
"""
# Nothing may be fetched, whatever a report says; a browser enforces what the page promises.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def document(title: str, body: Sequence[str], *, synthetic: bool) -> str:
    """The whole page. Its first line says what the texts are."""
    banner = "SYNTHETIC: phantom radiographs and phantom reports; nothing follows for patients. " if synthetic else ""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>'
        f'<h1>{html.escape(title)}</h1><p class="banner">{banner}Every generated text is a draft of a research system,'
        f" not for clinical use.</p>{''.join(body)}</body></html>\n"
    )


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of plain text."""
    return f'<p class="{kind}">{html.escape(text)}</p>' if kind else f"<p>{html.escape(text)}</p>"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Plain cells, the first row as titles; it scrolls by itself where the page is narrow."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows[1:])
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def number(value: str, interval: str, name: str) -> str:
    """One large number with its interval and its key."""
    return (
        f'<div class="number"><b>{html.escape(value)}</b><span>{html.escape(interval)}</span>'
        f"<span>{html.escape(name)}</span></div>"
    )
