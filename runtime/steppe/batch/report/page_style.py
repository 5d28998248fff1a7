"""The style sheet of a report: light and dark, from the width of a phone up."""

from __future__ import annotations

STYLE = """
:root{color-scheme:light dark;--page:#fff;--ink:#1f2933;--muted:#5f6c78;--rule:#e1e6ea;
--tile:#f5f7f9;
--supply:#cfe8da;--bought:#efe3d0;--idle:#d0d7de;--interactive:#5f9fd3;--batch:#e08a1e;--good:#3d9970;
--notice:#ffe9b8;--notice-ink:#7a4b00;--bad:#c22f2a}
@media (prefers-color-scheme:dark){:root{--page:#14191e;--ink:#e7ecf0;--muted:#9ba8b4;
--rule:#2a333b;
--tile:#1c2329;--supply:#22463a;--bought:#4a4030;--idle:#46525d;--interactive:#4a90cc;--batch:#eda13f;
--good:#4fb487;
--notice:#4a3710;--notice-ink:#ffd98a;--bad:#f0716b}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1000px;padding:24px 20px 48px;background:var(--page);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;
overflow-wrap:anywhere}
h1{font-size:28px;line-height:1.2;margin:4px 0}
h2{font-size:16px;margin:0 0 6px}
p{margin:0 0 8px}
.muted,figcaption,.unit,.tile small{color:var(--muted)}
.notice{display:inline-block;background:var(--notice);color:var(--notice-ink);border-radius:6px;
padding:6px 12px;margin:8px 0;font-weight:600}
.tag{font-size:11px;font-weight:600;background:var(--notice);color:var(--notice-ink);
border-radius:4px;
padding:1px 5px;margin-left:5px;white-space:nowrap;vertical-align:2px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(205px,1fr));gap:10px;
margin:16px 0 28px}
.tile{background:var(--tile);border-radius:8px;padding:10px 14px}
.tile b{display:block;overflow-wrap:normal;font-size:21px;line-height:1.35;font-weight:650}
.tile span.name{font-size:13px;color:var(--muted)}
.tile small{display:block;font-size:12.5px;line-height:1.4}
figure{margin:0 0 32px}
figcaption{font-size:13px}
.plot{position:relative;height:270px;margin:8px 6px 24px 62px}
.plot.low{height:150px}
svg{width:100%;height:100%;display:block;overflow:visible}
.up,.along{position:absolute;font-size:12px;color:var(--muted);white-space:nowrap}
.up{right:calc(100% + 8px);transform:translateY(50%)}
.along{top:calc(100% + 4px);transform:translateX(-50%)}
.unit{font-size:12px;text-align:center;margin:0 0 6px}
.rule{stroke:var(--rule);fill:none;vector-effect:non-scaling-stroke}
.legend{display:flex;flex-wrap:wrap;gap:2px 16px;font-size:13px}
.key i{display:inline-block;width:16px;height:10px;margin-right:6px;border-radius:2px}
.key i.line{height:0;border-top-width:2.5px;border-top-style:solid;vertical-align:3px;
border-radius:0}
.supply{fill:var(--supply);background:var(--supply)}
.bought{fill:var(--bought);background:var(--bought)}
.idle{fill:var(--idle);background:var(--idle)}
.interactive{fill:var(--interactive);background:var(--interactive)}
.batch{fill:var(--batch);background:var(--batch)}
path.line{fill:none;stroke-width:1.8;vector-effect:non-scaling-stroke}
.budget{stroke:var(--ink);border-color:var(--ink)}
.pace{stroke:var(--interactive);border-color:var(--interactive)}
.done{stroke:var(--good);border-color:var(--good)}
.bar{display:flex;height:22px;border-radius:4px;overflow:hidden;background:var(--idle);
margin:2px 0 10px}
.bar i{background:var(--good)}
table{border-collapse:collapse;width:100%;font-size:14px;margin:0 0 24px}
th,td{text-align:left;vertical-align:top;padding:5px 12px 5px 0;
border-bottom:1px solid var(--rule)}
th{font-weight:500;color:var(--muted);width:38%}
.bad{color:var(--bad)}
dl{font-size:14px}
dt{font-weight:600}
dd{margin:0 0 10px;color:var(--muted)}
@media (max-width:520px){body{padding:16px 14px 32px}h1{font-size:23px}.plot{height:210px;
margin-left:52px}
.tiles{grid-template-columns:1fr 1fr;gap:8px}.tile{padding:8px 10px}.tile b{font-size:17px}}
@media print{body{max-width:none}}
"""
