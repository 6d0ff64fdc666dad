// The timeline of a run: each step with its words and its calls, what waits, and what it cost.
import { $, $$, copyText, h, iconButton, setText } from './dom.js';
import { announce } from './conversation.js';
import { call } from './http.js';
import { paintMarkdown } from './markdown.js';
import { approvalForm, greet } from './runapproval.js';

const EXCERPT = 90;

// `chat`: the answer itself stands below, so it is left out here. `changed` asks for a fresh look.
export function timeline({ chat = false, changed = () => {}, home = () => {} } = {}) {
  const note = h('p', { class: 'note', hidden: true });
  const plan = planPart();
  const steps = h('ol', { class: 'steps', 'aria-label': 'Steps' });
  const answer = h('div', { class: 'answer', hidden: true }, h('div', { class: 'top' }, h('h3'), iconButton('copy', 'Copy the answer', copy)), h('div', { class: 'rendered' }));
  const end = h('p', { class: 'end', hidden: true });
  const total = h('p', { class: 'total' });
  const node = h('div', { class: 'run' }, note, plan.node, steps, answer, h('div', { class: 'over' }, end, total));
  const forms = new Map();
  let greeted = false;
  let written = '';

  function update(run) {
    note.hidden = !run.note;
    setText(note, run.note);
    plan.update(run);
    const shown = run.steps.filter((step) => !(step.answer && !step.summary && !step.reasoning_html && (chat || !run.running)));
    while (steps.children.length > shown.length) steps.lastChild.remove();
    shown.forEach((step, index) => paintStep(steps.children[index] ?? steps.appendChild(emptyStep()), step, run));
    node.toggleAttribute('data-running', run.running);
    answer.hidden = chat || run.running || !run.output;
    setText($('h3', answer), run.summed ? 'Summary' : run.good ? 'Answer' : 'So far');
    written = run.output;
    paintMarkdown($('.rendered', answer), answer.hidden ? '' : run.output_html);
    end.hidden = run.running;
    end.className = `end ${run.good ? 'good' : 'bad'}`;
    setText(end, run.ending);
    setText(total, run.total);
    paintApprovals(run);
  }

  // As it was written, so that its marks are there where it is rendered.
  async function copy({ currentTarget: button }) {
    await copyText(written, button);
    button.dataset.icon = 'done';
    setTimeout(() => { button.dataset.icon = 'copy'; }, 1500);
    announce('Copied.');
  }

  function paintStep(item, step, run) {
    setText($('.number', item), step.title);
    const planned = $('.planned', item);
    planned.hidden = !step.plan;
    planned.classList.toggle('refused', step.refused);
    setText(planned, step.plan);
    setText($('.facts', item), step.facts);
    const thoughts = $('.thoughts', item);
    thoughts.hidden = !step.reasoning_html;
    paintMarkdown($('.rendered', thoughts), step.reasoning_html);
    // The model's words before its calls are why it makes them; without calls they are its answer.
    const why = $('.words', item);
    why.hidden = !step.why_html || (step.answer && (chat || !run.running));
    paintMarkdown(why, why.hidden ? '' : step.why_html);
    const list = $('.calls', item);
    list.hidden = !step.calls.length;
    const there = new Map([...list.children].map((each) => [each.dataset.call, each]));
    for (const each of step.calls) paintCall(there.get(each.id) ?? list.appendChild(emptyCall(each)), each, run);
  }

  function paintCall(item, each, run) {
    const waiting = run.approvals.some((asked) => asked.call_id === each.id);
    const { facts, ...rest } = each;
    const key = JSON.stringify([rest, waiting]);
    // The seconds of a call under way go on without the rest being painted anew.
    if (item.dataset.key === key) { setText($('.called .facts', item), facts); return; }
    const opened = new Set($$('details[open]', item).map((fold) => fold.dataset.fold));
    const closed = new Set($$('details:not([open])', item).map((fold) => fold.dataset.fold));
    const focused = item.contains(document.activeElement) ? document.activeElement.closest('details')?.dataset.fold : null;
    item.dataset.key = key;
    item.dataset.state = each.state;
    $('.call', item).replaceChildren(...callParts(each, run, { waiting, opened, closed, whole: wholeOf(item) }));
    if (focused) $(`details[data-fold=${focused}] summary`, item)?.focus();
  }

  function paintApprovals(run) {
    const asked = new Map(run.approvals.map((each) => [each.call_id, each]));
    for (const [id, each] of forms) {
      if (asked.has(id)) continue;
      const inside = each.form.contains(document.activeElement);
      each.over();
      forms.delete(id);
      if (inside) next();
    }
    for (const [id, each] of asked) {
      if (forms.has(id)) continue;
      const made = approvalForm(run.id, each, () => { forms.delete(id); next(); changed(); });
      const place = $(`.calls > li[data-call="${CSS.escape(id)}"] .asks`, steps);
      if (!place) continue;
      forms.set(id, made);
      place.replaceChildren(made.form);
      if (forms.size === 1 || !greeted) { greeted = true; requestAnimationFrame(() => greet(made)); }
    }
  }

  // Where the person goes after a decision: to the next one, or back.
  function next() {
    const waiting = [...forms.values()].find((each) => each.form.isConnected);
    if (waiting) waiting.form.focus(); else home();
  }

  function leave() { for (const each of forms.values()) each.over(); forms.clear(); }

  return { node, update, leave };
}

const emptyStep = () => h('li', { class: 'step' },
  h('p', { class: 'top' }, h('b', { class: 'number' }), h('span', { class: 'facts' })),
  h('details', { class: 'thoughts', hidden: true }, h('summary', {}, 'Thoughts'), h('div', { class: 'rendered' })),
  h('div', { class: 'words rendered', hidden: true }),
  h('p', { class: 'planned', hidden: true }),
  h('ul', { class: 'calls', 'aria-label': 'Tool calls', hidden: true }));

// What the model said it will do; the person may fold it.
function planPart() {
  const share = h('b', { class: 'share' });
  const now = h('span', { class: 'excerpt' });
  const list = h('ol', {});
  const node = h('details', { class: 'plan', hidden: true, open: true }, h('summary', {}, h('b', {}, 'Plan'), share, now), list);
  let seen = '';

  function update({ items, plan, running }) {
    node.hidden = !items.length;
    const key = JSON.stringify([items, running]);
    if (key === seen) return;
    seen = key;
    setText(share, plan);
    setText(now, items.find((each) => each.state === 'in_progress')?.text ?? '');
    let current = null; // where a run is over, nothing is under way
    list.replaceChildren(...items.map((each) => {
      const here = running && !current && each.state === 'in_progress';
      if (here) current = each;
      return h('li', { 'data-state': each.state, 'aria-current': here ? 'step' : null },
        h('i', { class: 'glyph', 'aria-hidden': 'true' }, each.glyph), h('span', { class: 'text' }, each.text), h('span', { class: 'sr' }, `, ${each.words}`));
    }));
  }

  return { node, update };
}

const emptyCall = (each) => h('li', { 'data-call': each.id }, h('div', { class: 'call' }), h('div', { class: 'asks' }));

// Fetched once; a call that is painted anew keeps it.
const fetched = new WeakMap();
const wholeOf = (item) => fetched.get(item) ?? null;

function callParts(each, run, { waiting, opened, closed, whole }) {
  const open = (name, usual) => (opened.has(name) || (usual && !closed.has(name)));
  return [
    h('p', { class: 'called' }, h('i', { class: 'glyph', 'aria-hidden': 'true' }, each.glyph), h('code', {}, each.name), h('span', { class: 'state' }, each.words), h('span', { class: 'facts' }, each.facts)),
    each.arguments && !waiting ? fold('arguments', each.asked === null ? 'Arguments' : 'Arguments as you changed them', each.arguments, open('arguments', false), each.named) : null,
    each.asked === null ? null : fold('asked', 'Arguments the model wrote', each.asked, open('asked', false)),
    each.result || each.pictures ? resultPart(each, run, whole, open('result', each.pictures > 0 || ['failure', 'denied', 'invalid'].includes(each.state))) : null,
  ].filter(Boolean);
}

const fold = (name, label, text, open, brief = text) => h('details', { 'data-fold': name, open },
  h('summary', {}, label, h('span', { class: 'excerpt' }, excerpt(brief))), h('pre', { tabindex: 0 }, text));

function resultPart(each, run, whole, open) {
  const label = each.state === 'success' ? 'Result' : each.state === 'denied' ? 'Why not' : 'What went wrong';
  const place = h('div', { class: 'result' }, ...(whole ? wholeParts(whole) : [each.result ? h('pre', { tabindex: 0 }, each.result) : null]));
  const button = h('button', { type: 'button', class: 'button small', onclick: () => show(true) }, each.pictures ? 'Show picture' : 'Show whole result');
  const lacks = each.more && !whole;
  const part = h('details', { 'data-fold': 'result', open }, h('summary', {}, label, h('span', { class: 'excerpt' }, excerpt(each.result))), place, lacks ? button : null);
  // A picture says nothing folded up, so it comes by itself with the fold.
  if (lacks && each.pictures) part.addEventListener('toggle', () => { if (part.open && button.isConnected && !button.disabled) show(false); });
  const show = (asked) => showWhole(button, place, each, run, asked);
  return part;
}

async function showWhole(button, place, each, run, asked) {
  const item = button.closest('li');
  button.disabled = true;
  try {
    const whole = await call('GET', `runs/${encodeURIComponent(run.id)}/calls/${encodeURIComponent(each.id)}/result`, undefined, { timeout: 60000 });
    fetched.set(item, whole);
    place.replaceChildren(...wholeParts(whole));
    button.remove();
    if (asked) $('pre', place)?.focus();
  } catch (problem) {
    button.disabled = false;
    place.append(h('p', { class: 'wrong', role: 'alert' }, `${problem.message} ${problem.hint ?? ''}`));
  }
}

const wholeParts = ({ text, images }) => [
  text ? h('pre', { tabindex: 0 }, text) : null,
  ...images.filter((image) => /^image\/[a-z.+-]+$/.test(image.media_type)).map((image, index) => h('img', { src: `data:${image.media_type};base64,${image.data}`, alt: `Picture ${index + 1} of the result` })),
].filter(Boolean);

function excerpt(text) {
  const line = text.replace(/\s+/g, ' ').trim();
  return line.length > EXCERPT ? `${line.slice(0, EXCERPT)}…` : line;
}
