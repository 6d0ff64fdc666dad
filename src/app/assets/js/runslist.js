// The list in the Runs dialog: read page by page, and painted so that whoever reads it or stands in it keeps their place.
import { $, h, setText } from './dom.js';
import { call } from './http.js';

const PAGE = 100;

// `node` goes into the dialog. `choose` is called with a run's id, `shown` says which one is on show.
export function runsList({ choose, shown }) {
  const lines = new Map();
  const items = h('ul', { class: 'list' }, h('li', { class: 'note' }, 'Looking them up…'));
  const count = h('small', { role: 'status' });
  const button = h('button', { type: 'button', class: 'button', onclick: more }, 'Show more');
  const foot = h('div', { class: 'make', hidden: true }, count, button);
  let runs = null; // the newest ones, without a gap
  let total = 0;
  let unsure = false; // whether there may be a gap after all
  let wrong = '';
  let turn = Promise.resolve();

  // One after the other, or they would undo each other's work.
  const inTurn = (work) => { turn = turn.catch(() => {}).then(work); return turn; };

  const read = (offset, limit = PAGE) => call('GET', `runs?limit=${limit}&offset=${offset}`);

  // Asked for again and again, so it reads the first page; of the rest only what works still, and all of it where that changed.
  const refresh = () => inTurn(async () => {
    const first = await read(0);
    const ids = new Set(first.runs.map((run) => run.id));
    const oldest = first.runs.at(-1)?.at;
    const before = runs ?? [];
    const known = new Set(before.map((run) => run.id));
    const behind = before.filter((run) => !ids.has(run.id) && run.at <= oldest);
    const news = first.runs.filter((run) => !known.has(run.id)).length;
    const gone = before.length + news - first.runs.length - behind.length;
    if (runs && total + news - gone !== first.total) unsure = true;
    total = first.total;
    runs = [...first.runs, ...behind];
    paint();
    if (behind.length) await look(first.runs, behind); else unsure = false;
  });

  async function look(first, behind) {
    const at = behind.map((run, index) => (run.running ? index : -1)).filter((index) => index >= 0);
    if (unsure) {
      const again = await span(first.length, behind.length);
      runs = unique([...first, ...again]);
      unsure = false;
    } else if (at.length) {
      const newer = new Map((await span(first.length + at[0], at.at(-1) + 1 - at[0])).map((run) => [run.id, run]));
      runs = runs.map((run) => newer.get(run.id) ?? run);
    } else return;
    paint();
  }

  async function span(offset, length) {
    const found = [];
    for (let done = 0; done < length; done += PAGE) found.push(...(await read(offset + done, Math.min(PAGE, length - done))).runs);
    return found;
  }

  async function more() {
    if (button.ariaDisabled) return; // stays in reach of keys: a disabled one would lose the focus
    button.ariaDisabled = 'true';
    setText(button, 'Looking them up…');
    wrong = '';
    try {
      await refresh();
      await inTurn(async () => {
        const page = await read(runs.length);
        unsure ||= page.total !== total;
        const known = new Set(runs.map((run) => run.id));
        const older = page.runs.filter((run) => !known.has(run.id));
        runs = [...runs, ...older];
        paint();
        if (older.length) $('button', lines.get(older[0].id).node).focus();
      });
    } catch (problem) { wrong = `${problem.message} ${problem.hint ?? ''}`; }
    button.ariaDisabled = null;
    setText(button, 'Show more');
    paint();
  }

  function drop(id) {
    const left = runs?.filter((run) => run.id !== id);
    if (!left || left.length === runs.length) return;
    runs = left;
    total -= 1;
    paint();
  }

  function paint() {
    if (!runs) return;
    const focused = items.contains(document.activeElement) ? document.activeElement.dataset.run : null;
    const nodes = runs.length ? runs.map(line) : [none];
    const staying = new Set(nodes);
    for (const node of [...items.children]) if (!staying.has(node)) node.remove();
    nodes.forEach((node, index) => { if (items.children[index] !== node) items.insertBefore(node, items.children[index] ?? null); });
    if (focused && document.activeElement?.dataset.run !== focused) lines.get(focused)?.node.firstChild.focus();
    for (const [id, { node }] of lines) if (!staying.has(node)) lines.delete(id);
    foot.hidden = runs.length >= total;
    setText(count, wrong || `${runs.length.toLocaleString('en')} of ${total.toLocaleString('en')} runs`);
  }

  const none = h('li', { class: 'note' }, 'No runs yet. Give a model a task and tools.');

  // A line is made anew where it says something else.
  function line(run) {
    const current = run.id === shown();
    const words = [run.task, run.state, run.words, ` · ${run.model} · ${ago(run.at)}`, run.plan ? `${run.cost} · plan ${run.plan}` : run.cost];
    const key = JSON.stringify([words, current]);
    const old = lines.get(run.id);
    if (old?.key === key) return old.node;
    const [task, state, doing, where, cost] = words;
    const node = h('li', {}, h('button', { type: 'button', 'data-run': run.id, 'aria-current': current ? 'true' : null, onclick: () => choose(run.id) },
      h('span', { class: 'task' }, task),
      h('small', {}, h('span', { class: `state ${state}` }, doing), where),
      h('small', {}, cost)));
    lines.set(run.id, { key, node });
    return node;
  }

  return {
    nodes: [items, foot], refresh, paint, drop,
    newest: () => runs?.[0] ?? null,
    fail: (problem) => { if (!runs) items.replaceChildren(h('li', { class: 'note' }, h('p', { role: 'alert' }, `${problem.message} ${problem.hint ?? ''}`))); },
  };
}

function unique(runs) {
  return [...new Map(runs.map((run) => [run.id, run])).values()];
}

export function ago(at) {
  const minutes = Math.max(0, Math.round((Date.now() / 1000 - at) / 60));
  if (minutes < 1) return 'just now';
  if (minutes < 60) return `${minutes} min ago`;
  if (minutes < 48 * 60) return `${Math.round(minutes / 60)} h ago`;
  return `${Math.round(minutes / 1440)} days ago`;
}
