"""The look of a sweep's report."""

from __future__ import annotations

STYLE = """
body{margin:0;background:#f6f7f9;color:#1f2933;font:15px/1.5 system-ui,"DejaVu Sans",sans-serif}
main{max-width:1180px;margin:0 auto;padding:24px 28px 60px;background:white}
h1{font-size:26px;margin:8px 0 14px}h2{font-size:19px;margin:34px 0 8px}
h3{font-size:15px;margin:0 0 4px}p{margin:4px 0 10px}
.warn{background:#ffe9b8;color:#6b4300;padding:9px 14px;border-radius:6px}
.cards{display:grid;grid-template-columns:repeat(3,1fr);gap:16px}
.card{border:1px solid #d5dbe1;border-radius:8px;padding:14px 16px}
.letter{color:#b0241c;font-size:19px;margin-right:4px}
.knobs{font-size:20px;font-weight:700;margin:2px 0 6px}.why{color:#5d6b78;font-size:13.5px}
.figures{display:grid;grid-template-columns:1fr 1fr;gap:26px 30px;margin-top:30px}
figure{margin:0}figcaption{color:#5d6b78;font-size:13.5px}
svg{width:100%;height:auto;font-family:inherit}
.legend{color:#5d6b78;font-size:13px;margin:2px 0}
.legend span{margin-left:10px;white-space:nowrap}
.legend i{display:inline-block;width:10px;height:10px;border-radius:50%;margin-right:4px}
table{border-collapse:collapse;font-size:13.5px;font-variant-numeric:tabular-nums}
th,td{padding:3px 11px;text-align:right;border-bottom:1px solid #e4e8ec}
th{color:#5d6b78;font-weight:600}td.text,th:first-child{text-align:left}
small{color:#5d6b78}tr.best td{font-weight:700}
tr.bad td{color:#98a2ad;text-decoration:line-through}
tr.bad td:last-child{text-decoration:none;color:#b0241c}
@media(max-width:800px){.cards,.figures{grid-template-columns:1fr}}
"""
