// The Timeline dialog: how an answer was made, phase by phase, with the machine's curves below.
import { $, $$, h, iconButton } from './dom.js';
import { call } from './http.js';
import { on } from './store.js';

const LANE = 38;
// A longer text is folded: the conversation itself is on the page anyway.
const LONG = 400;
let dialog = null;

export function startFlight() {
  on('theme', redraw);
  addEventListener('resize', redraw);
}

export const flightButton = (facts) => iconButton('timeline', 'Timeline', () => open(facts.id));

async function open(id) {
  if (dialog) return;
  const own = document.body.appendChild(h('dialog', { class: 'sheet flight', 'aria-labelledby': 'flight-title' },
    h('div', { class: 'head' }, h('h2', { id: 'flight-title' }, 'Timeline'), iconButton('close', 'Close', () => own.close())),
    h('div', { class: 'body' }, h('p', { class: 'note', role: 'status' }, 'Looking it up…'))));
  dialog = own;
  own.addEventListener('click', (event) => { if (event.target === own) own.close(); });
  own.addEventListener('close', () => {
    own.remove();
    dialog = null;
    // What stands under an answer may have been made anew meanwhile.
    $(`[data-message="${CSS.escape(id)}"] [data-icon=timeline]`)?.focus();
  });
  own.showModal();
  let children;
  try {
    children = told(await call('GET', `messages/${encodeURIComponent(id)}/flight`));
  } catch (problem) {
    children = [h('p', { class: 'note', role: 'status' }, problem.message), problem.hint ? h('p', { class: 'note' }, problem.hint) : null];
  }
  if (own !== dialog) return;
  $('.body', own).replaceChildren(...children.filter(Boolean));
  redraw();
}

function told(flight) {
  const started = new Date(flight.started_at * 1000).toLocaleString([], { dateStyle: 'medium', timeStyle: 'medium' });
  return [
    h('p', { class: 'facts' }, [...flight.facts, started].map((fact) => h('span', {}, fact))),
    h('div', { class: 'axis' },
      h('ol', { class: 'phases', 'aria-label': 'Phases' }, flight.phases.map(phase)),
      h('div', { class: 'lanes' }, flight.lanes.map((each) => lane(each, flight.phases))),
      h('div', { class: 'ticks', 'aria-hidden': 'true' }, h('div', {}, flight.ticks.map((tick) => h('span', {}, tick))))),
    folded('Request', flight.request, 'Nothing was sent: it ended before.'),
    folded('Response', flight.response, 'Nothing came back.'),
    h('div', { class: 'ends' },
      h('p', { class: 'note' }, 'The file holds this conversation, without keys and tokens.'),
      h('a', { class: 'button', href: `./ui/messages/${encodeURIComponent(flight.message_id)}/flight/export`, download: '' }, 'Export')),
  ];
}

function phase({ phase: kind, label, words, tokens, times, stages, bars }) {
  const place = (node, { start, share }) => {
    node.style.left = `${start * 100}%`;
    node.style.width = `${share * 100}%`;
    return node;
  };
  return h('li', { class: kind },
    h('span', { class: 'label' }, label),
    h('span', { class: 'track' }, bars.map((bar) => place(h('i'), bar))),
    h('span', { class: 'words' }, h('b', {}, words), tokens ? h('small', {}, tokens) : null, times > 1 ? h('small', {}, `${times} times`) : null),
    stages.length ? h('small', { class: 'stages' }, stages.join(' · ')) : null);
}

function lane({ label, title, words, points }, phases) {
  const canvas = h('canvas', { height: LANE, role: 'img', 'aria-label': `${label}: ${words}` });
  canvas.curve = points;
  canvas.borders = phases.flatMap(({ bars }) => bars.map(({ start }) => start)).filter((start) => start > 0.002);
  return h('div', { class: 'lane', title: title || null }, h('span', { class: 'label' }, label), canvas, h('span', { class: 'words' }, words));
}

const redraw = () => { if (dialog) $$('canvas', dialog).forEach(draw); };

function draw(canvas) {
  const width = canvas.clientWidth;
  if (!width) return;
  const scale = devicePixelRatio || 1;
  canvas.width = width * scale;
  canvas.height = LANE * scale;
  const pen = canvas.getContext('2d');
  pen.scale(scale, scale);
  const colour = (name) => getComputedStyle(document.body).getPropertyValue(name).trim();
  pen.fillStyle = colour('--desk-line');
  for (const place of canvas.borders) pen.fillRect(Math.round(place * width), 0, 1, LANE);
  const y = (share) => LANE - 1.5 - Math.min(1, share) * (LANE - 4);
  for (const run of runs(canvas.curve)) {
    if (run.length === 1) run.push([run[0][0] + 2 / width, run[0][1]]); // a lone reading is a dot
    pen.beginPath();
    run.forEach(([at, share], index) => (index ? pen.lineTo(at * width, y(share)) : pen.moveTo(at * width, y(share))));
    pen.strokeStyle = colour('--desk-accent');
    pen.lineWidth = 1.5;
    pen.lineJoin = 'round';
    pen.stroke();
    pen.lineTo(run.at(-1)[0] * width, LANE);
    pen.lineTo(run[0][0] * width, LANE);
    pen.closePath();
    pen.fillStyle = colour('--desk-accent-soft');
    pen.fill();
  }
}

// The stretches of a curve without a gap.
function runs(points) {
  const found = [[]];
  for (const point of points) {
    if (point[1] === null) found.push([]); else found.at(-1).push(point);
  }
  return found.filter((run) => run.length);
}

// JSON that can be unfolded. Everything goes in as text.

function folded(title, value, nothing) {
  if (value === null) return h('p', { class: 'json none' }, h('b', {}, title), ` ${nothing}`);
  const details = branch([h('b', {}, title)], value);
  details.classList.add('json');
  return details;
}

function node(name, value) {
  const key = h('span', { class: 'key' }, name);
  if (value !== null && typeof value === 'object') {
    const count = Array.isArray(value) ? value.length : Object.keys(value).length;
    if (count) return branch([key, h('span', { class: 'more' }, hint(value, count))], value);
    return h('div', { class: 'leaf' }, key, h('span', { class: 'value' }, Array.isArray(value) ? '[]' : '{}'));
  }
  if (typeof value === 'string' && value.length > LONG) {
    const start = `${value.slice(0, 80).replace(/\s+/g, ' ')}…`;
    return h('details', { class: 'branch' },
      h('summary', {}, key, h('span', { class: 'value text' }, start), h('span', { class: 'more' }, `${value.length.toLocaleString('en')} characters`)),
      h('div', { class: 'inner' }, h('span', { class: 'value text' }, value)));
  }
  return h('div', { class: 'leaf' }, key, h('span', { class: `value ${value && typeof value === 'string' ? 'text' : 'literal'}` }, value && typeof value === 'string' ? value : JSON.stringify(value)));
}

const hint = (value, count) => (typeof value.role === 'string' ? value.role : `${count} ${Array.isArray(value) ? (count === 1 ? 'item' : 'items') : (count === 1 ? 'field' : 'fields')}`);

// Filled when it is opened first: a long conversation has hundreds.
function branch(head, value) {
  const inner = h('div', { class: 'inner' });
  const details = h('details', { class: 'branch' }, h('summary', {}, head), inner);
  details.addEventListener('toggle', () => {
    if (details.open && !inner.childElementCount) inner.append(...Object.entries(value).map(([name, each]) => node(name, each)));
  });
  return details;
}
