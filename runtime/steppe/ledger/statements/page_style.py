"""The style sheet of a statement: light and dark, paper, from the width of a phone up."""

from __future__ import annotations

STYLE = """
:root{color-scheme:light dark;--page:#fff;--ink:#1f2933;--muted:#5f6c78;--rule:#dde3e8;
--tile:#f5f7f9;--prompt:#5f9fd3;--cached:#b9d5ec;--output:#2f6ea6;--green:#3d9970;--other:#c3a36a;
--idle:#cfd6dd;--price:#7d6bb0;--tag:#ffe9b8;--tag-ink:#7a4b00}
@media screen and (prefers-color-scheme:dark){:root{--page:#14191e;--ink:#e7ecf0;--muted:#9ba8b4;
--rule:#2f3a43;--tile:#1c2329;--prompt:#4a90cc;--cached:#2c5272;--output:#9cc9ef;--green:#4fb487;
--other:#a08550;--idle:#46525d;--price:#a597d6;--tag:#4a3710;--tag-ink:#ffd98a}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1000px;padding:24px 20px 48px;background:var(--page);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;
overflow-wrap:anywhere}
h1{font-size:28px;line-height:1.2;margin:0 0 4px}
h2{font-size:16px;margin:0 0 4px}
p{margin:0 0 8px}
.muted,figcaption{color:var(--muted);font-size:13px}
.tag{font-size:11px;font-weight:600;background:var(--tag);color:var(--tag-ink);border-radius:4px;
padding:1px 5px;white-space:nowrap}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(205px,1fr));gap:10px;
margin:16px 0 28px}
.tile{background:var(--tile);border-radius:8px;padding:10px 14px}
.tile b{display:block;font-size:20px;line-height:1.35;font-weight:650;
font-variant-numeric:tabular-nums}
.tile span.name,.tile small{font-size:13px;color:var(--muted)}
.tile small{display:block;line-height:1.45}
figure{margin:0 0 28px;padding-bottom:1px}
.plot{position:relative;height:150px;margin:12px 6px 26px 72px}
svg{width:100%;height:100%;display:block;overflow:visible}
.up,.along{position:absolute;font-size:12px;color:var(--muted);white-space:nowrap}
.up{right:calc(100% + 8px);transform:translateY(50%)}
.along{top:calc(100% + 4px)}
.rule{stroke:var(--rule);fill:none;vector-effect:non-scaling-stroke}
.legend:empty,figcaption:empty{display:none}
.legend{display:flex;flex-wrap:wrap;gap:2px 16px;font-size:13px}
.key i{display:inline-block;width:14px;height:10px;margin-right:6px;border-radius:2px}
.prompt{fill:var(--prompt);background:var(--prompt)}
.cached{fill:var(--cached);background:var(--cached)}
.output{fill:var(--output);background:var(--output)}
.green{fill:var(--green);background:var(--green)}
.other{fill:var(--other);background:var(--other)}
.idle{fill:var(--idle);background:var(--idle)}
.price{fill:var(--price)}
table{border-collapse:collapse;width:100%;font-size:13.5px;margin:0 0 28px}
th,td{text-align:right;vertical-align:top;padding:5px 0 5px 14px;
border-bottom:1px solid var(--rule);font-variant-numeric:tabular-nums;white-space:nowrap}
th:first-child,td:first-child{text-align:left;padding-left:0;white-space:normal}
th{font-weight:500;color:var(--muted)}
td small{display:block;color:var(--muted);font-weight:400}
tr.total td{font-weight:650;border-bottom:0}
@media screen and (max-width:640px){body{padding:16px 14px 32px}h1{font-size:23px}
.tiles{grid-template-columns:1fr 1fr;gap:8px}.tile{padding:8px 10px}.tile b{font-size:16px}
thead{display:none}tr{display:block;border-bottom:1px solid var(--rule);padding:8px 0}
td,td:first-child{display:flex;justify-content:space-between;gap:14px;border:0;padding:1px 0;
text-align:right}td:first-child{display:block;text-align:left;font-weight:600}
td[data-name]::before{content:attr(data-name);color:var(--muted);font-weight:400;white-space:nowrap}
td:empty,td br{display:none}.plot{margin-left:60px}}
@page{margin:14mm}
@media print{:root{color-scheme:light}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}
body{max-width:none;padding:0;font-size:11px}figure,tr,.tile{break-inside:avoid}
thead{display:table-header-group}table{font-size:10px}.tag{font-size:8px}.plot{height:110px}
.tiles{grid-template-columns:repeat(4,1fr);gap:6px}.tile{padding:8px 10px}.tile b{font-size:14px}
.tile span.name,.tile small{font-size:10px}}
"""
