// The timeline of a run: each step with its words and its calls, what waits, and what it cost.
import { $, $$, h, setText } from './dom.js';
import { call } from './http.js';
import { approvalForm, greet } from './runapproval.js';

const EXCERPT = 90;

// `chat`: the answer itself stands below, so it is left out here. `changed` asks for a fresh look.
export function timeline({ chat = false, changed = () => {}, home = () => {} } = {}) {
  const note = h('p', { class: 'note', hidden: true });
  const steps = h('ol', { class: 'steps', 'aria-label': 'Steps' });
  const answer = h('div', { class: 'answer', hidden: true }, h('h3', {}, 'Answer'), h('div', { class: 'text' }));
  const end = h('p', { class: 'end', hidden: true });
  const total = h('p', { class: 'total' });
  const node = h('div', { class: 'run' }, note, steps, answer, h('div', { class: 'over' }, end, total));
  const forms = new Map();
  let greeted = false;

  function update(run) {
    note.hidden = !run.note;
    setText(note, run.note);
    const shown = run.steps.filter((step) => !(step.answer && !step.reasoning && (chat || !run.running)));
    while (steps.children.length > shown.length) steps.lastChild.remove();
    shown.forEach((step, index) => paintStep(steps.children[index] ?? steps.appendChild(emptyStep()), step, run));
    answer.hidden = chat || run.running || !run.output;
    setText($('.text', answer), answer.hidden ? '' : run.output);
    end.hidden = run.running;
    end.className = `end ${run.good ? 'good' : 'bad'}`;
    setText(end, run.ending);
    setText(total, run.total);
    paintApprovals(run);
  }

  function paintStep(item, step, run) {
    setText($('.number', item), `Step ${step.number}`);
    setText($('.facts', item), step.facts);
    const thoughts = $('.thoughts', item);
    thoughts.hidden = !step.reasoning;
    setText($('.text', thoughts), step.reasoning);
    // The model's words before its calls are why it makes them; without calls they are its answer.
    const why = $('.words', item);
    why.hidden = !step.why || (step.answer && (chat || !run.running));
    setText(why, why.hidden ? '' : step.why);
    const list = $('.calls', item);
    list.hidden = !step.calls.length;
    const there = new Map([...list.children].map((each) => [each.dataset.call, each]));
    for (const each of step.calls) paintCall(there.get(each.id) ?? list.appendChild(emptyCall(each)), each, run);
  }

  function paintCall(item, each, run) {
    const waiting = run.approvals.some((asked) => asked.call_id === each.id);
    const key = JSON.stringify([each, waiting]);
    if (item.dataset.key === key) return;
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
  h('details', { class: 'thoughts', hidden: true }, h('summary', {}, 'Thoughts'), h('div', { class: 'text' })),
  h('p', { class: 'words text', hidden: true }),
  h('ul', { class: 'calls', 'aria-label': 'Tool calls', hidden: true }));

const emptyCall = (each) => h('li', { 'data-call': each.id }, h('div', { class: 'call' }), h('div', { class: 'asks' }));

// Fetched once; a call that is painted anew keeps it.
const fetched = new WeakMap();
const wholeOf = (item) => fetched.get(item) ?? null;

function callParts(each, run, { waiting, opened, closed, whole }) {
  const open = (name, usual) => (opened.has(name) || (usual && !closed.has(name)));
  return [
    h('p', { class: 'called' }, h('i', { class: 'glyph', 'aria-hidden': 'true' }, each.glyph), h('code', {}, each.name), h('span', { class: 'state' }, each.words), each.facts ? h('span', { class: 'facts' }, each.facts) : null),
    each.arguments && !waiting ? fold('arguments', each.asked === null ? 'Arguments' : 'Arguments as you changed them', each.arguments, open('arguments', !each.folded)) : null,
    each.asked === null ? null : fold('asked', 'Arguments the model wrote', each.asked, open('asked', false)),
    each.result ? resultPart(each, run, whole, open('result', each.state === 'failure' || each.state === 'denied' || each.state === 'invalid')) : null,
  ].filter(Boolean);
}

const fold = (name, label, text, open) => h('details', { 'data-fold': name, open },
  h('summary', {}, label, h('span', { class: 'excerpt' }, excerpt(text))), h('pre', { tabindex: 0 }, text));

function resultPart(each, run, whole, open) {
  const label = each.state === 'success' ? 'Result' : each.state === 'denied' ? 'Why not' : 'What went wrong';
  const place = h('div', { class: 'result' }, ...(whole ? wholeParts(whole) : [h('pre', { tabindex: 0 }, each.result)]));
  return h('details', { 'data-fold': 'result', open }, h('summary', {}, label, h('span', { class: 'excerpt' }, excerpt(each.result))), place,
    each.more && !whole ? h('button', { type: 'button', class: 'button small', onclick: ({ currentTarget }) => showWhole(currentTarget, place, each, run) }, 'Show whole result') : null);
}

async function showWhole(button, place, each, run) {
  button.disabled = true;
  try {
    const whole = await call('GET', `runs/${encodeURIComponent(run.id)}/calls/${encodeURIComponent(each.id)}/result`, undefined, { timeout: 60000 });
    fetched.set(button.closest('li'), whole);
    place.replaceChildren(...wholeParts(whole));
    button.remove();
    $('pre', place)?.focus();
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
