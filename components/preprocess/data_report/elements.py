"""What the page of the data report is made of: its style, tables, figures and numbers."""

import base64
from collections.abc import Sequence
from html import escape
from io import BytesIO

from PIL import Image

from components.preprocess.data_report.plots import percent
from model.radiograph import decode_png

JPEG_QUALITY = 85

STYLE = """
:root{color-scheme:light}
body{font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif;max-width:1100px;margin:0 auto;
padding:1.5rem 1rem 4rem;color:#1b1b1b;background:#fff}
h1{font-size:1.7rem;margin:0 0 .2rem}h2{font-size:1.2rem;margin:2.4rem 0 .6rem;padding-bottom:.2rem;
border-bottom:2px solid #1f4e79}
p{max-width:52rem}.sub{color:#555;margin:.1rem 0 1rem}
.banner{background:#fff3cd;border-left:5px solid #d39e00;padding:.6rem 1rem;margin:.6rem 0}
.restricted{background:#fdecea;border-left-color:#b3261e}
.tiles{display:flex;flex-wrap:wrap;gap:.8rem;margin:1.2rem 0}.tile{background:#f3f6fa;border-radius:6px;
padding:.7rem 1.1rem;min-width:8rem}.tile b{display:block;font-size:1.5rem;color:#1f4e79}.tile span{color:#555;
font-size:.85rem}
table{border-collapse:collapse;margin:.6rem 0;font-variant-numeric:tabular-nums}
td,th{border-bottom:1px solid #dde3ea;padding:.25rem .7rem;text-align:left;vertical-align:top}th{background:#f3f6fa}
td.n,th.n{text-align:right}.small{font-size:.85rem;color:#555}.wide{overflow-x:auto}
svg{max-width:100%;height:auto;font:11px system-ui,sans-serif;fill:#1b1b1b}svg .value{fill:#555;font-size:9px}
.key{margin-right:1.2rem}.key i{display:inline-block;width:.8rem;height:.8rem;margin-right:.35rem;vertical-align:-1px}
figure{display:inline-block;margin:0 .7rem .9rem 0;vertical-align:top}figure img{display:block;background:#000}
figcaption{font-size:.8rem;color:#555;overflow-wrap:anywhere}code{font-size:.85rem;overflow-wrap:anywhere}
@media print{h2{break-after:avoid}figure,tr{break-inside:avoid}}
"""


def figure(png: bytes, side: int, caption: str, text: str = "") -> str:
    image = Image.fromarray(decode_png(png)).resize((side, side), Image.Resampling.LANCZOS)
    sink = BytesIO()
    image.save(sink, "jpeg", quality=JPEG_QUALITY)
    data = base64.b64encode(sink.getvalue()).decode()
    words = f"<br>{escape(text)}" if text else ""
    return (
        f'<figure style="width:{side}px"><img alt="radiograph of study {escape(caption, quote=True)}" width={side}'
        f' height={side} src="data:image/jpeg;base64,{data}"><figcaption>{escape(caption)}{words}</figcaption></figure>'
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, text: Sequence[int] = (0,)) -> str:
    """text: columns that hold words; the others are numbers and stand to the right."""

    def line(tag: str, cells: Sequence[str]) -> str:
        marks = ["" if column in text else " class=n" for column in range(len(cells))]
        return "".join(f"<{tag}{mark}>{escape(c)}</{tag}>" for mark, c in zip(marks, cells, strict=True))

    body = "".join(f"<tr>{line('td', row)}</tr>" for row in rows)
    return f"<table><tr>{line('th', head)}</tr>{body}</table>"


def share(part: int, whole: int) -> str:
    return percent(part / whole) if whole else "-"


def number(value: int) -> str:
    return f"{value:,}".replace(",", " ")
