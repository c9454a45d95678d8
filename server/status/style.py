"""The page's style: light and dark as the reader's system has it, tables that become lists on a phone."""

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #57606a; --paper: #f6f8fa; --card: #ffffff; --line: #d0d7de;
  --good: #116329; --idle: #57606a; --bad: #b3261e; --wait: #7d4e00; --link: #0550ae; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --soft: #9aa4af; --paper: #0d1117; --card: #161b22; --line: #30363d;
    --good: #57d364; --idle: #9aa4af; --bad: #ff8b82; --wait: #e3b341; --link: #79b8ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1.25rem; background: var(--paper); color: var(--ink);
  font: 15px/1.45 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; overflow-wrap: break-word; }
header { display: flex; flex-wrap: wrap; align-items: baseline; gap: .25rem 1rem; margin-bottom: 1rem; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.05rem; margin: 0 0 .6rem; }
header p { margin: 0; color: var(--soft); } a { color: var(--link); }
a:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
.skip { position: absolute; left: -99rem; } .skip:focus { position: static; }
.cards { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); gap: .75rem; margin: 0 0 .75rem;
  padding: 0; list-style: none; }
.cards li, section { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .8rem 1rem; }
section { margin-bottom: .75rem; } .pair { display: grid; grid-template-columns: 1fr 1fr; gap: 0 .75rem; }
.pair > :last-child:nth-child(odd) { grid-column: 1 / -1; }
.cards h2 { font-size: .85rem; font-weight: 600; color: var(--soft); margin: 0; }
.cards strong { display: block; font-size: 1.45rem; font-weight: 600; line-height: 1.3; }
.cards span { display: block; color: var(--soft); font-size: .85rem; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .32rem .6rem .32rem 0; border-top: 1px solid var(--line); }
thead th { border-top: 0; color: var(--soft); font-size: .85rem; font-weight: 600; } tbody th { font-weight: 600; }
tbody th { overflow-wrap: anywhere; min-width: 7rem; } .reason { overflow-wrap: anywhere; min-width: 12rem; }
.number { text-align: right; padding-right: .9rem; white-space: nowrap; }
caption { text-align: left; color: var(--soft); padding-bottom: .4rem; }
.serving, .ready { color: var(--good); } .failed, .mixed, .bad { color: var(--bad); font-weight: 600; }
.loading { color: var(--wait); } .standby { color: var(--idle); } .reason { color: var(--soft); display: block; }
.label { border: 1px solid var(--line); border-radius: 999px; padding: 0 .5rem; white-space: nowrap; }
p.none { margin: 0; color: var(--soft); } footer { color: var(--soft); font-size: .85rem; }
@media (max-width: 46rem) {
  body { padding: .75rem; } .pair { grid-template-columns: 1fr; }
  .cards { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  tbody tr { display: block; border-top: 1px solid var(--line); padding: .4rem 0; }
  tbody th, tbody td { display: flex; justify-content: space-between; gap: 1rem; border: 0; padding: .1rem 0; }
  tbody td { text-align: right; } tbody td::before { content: attr(data-name); color: var(--soft); text-align: left;
    flex: none; }
  .reason { min-width: 0; } .number { padding-right: 0; } }
"""
