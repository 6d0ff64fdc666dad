// Live curves of GPU, VRAM, CPU and RAM: one minute each, drawn on a canvas.
import { $, h, setText } from './dom.js';
import { call } from './http.js';
import { on } from './store.js';

const LENGTH = 60;
const HEIGHT = 34;
const past = new Map();
let started = false;

export async function startGauges() {
  await window.desk.part('inspector');
  try {
    const samples = await call('GET', `history?seconds=${LENGTH}`);
    for (const sample of samples) remember(sample);
    if (samples.length) paint(samples.at(-1));
  } catch { /* curves begin empty */ }
  started = true;
  on('hardware', (sample) => { if (started && sample) { remember(sample); paint(sample); } });
  on('theme', redraw);
  addEventListener('resize', redraw);
}

function remember({ gauges }) {
  for (const { key, share } of gauges) {
    const curve = past.get(key) ?? [];
    curve.push(share);
    past.set(key, curve.slice(-LENGTH));
  }
}

function paint({ gauges, note }) {
  const place = $('#gauges');
  const keys = gauges.map((gauge) => gauge.key).join();
  if (place.dataset.keys !== keys) {
    place.dataset.keys = keys;
    place.replaceChildren(...gauges.map((gauge) => h('div', { class: 'gauge', 'data-key': gauge.key },
      h('div', {}, h('span', { title: gauge.title || null }, gauge.label), h('output', {})),
      h('canvas', { height: HEIGHT, role: 'img', 'aria-label': `${gauge.label}, last minute` }),
      h('small', {}))));
  }
  for (const gauge of gauges) {
    const box = $(`[data-key="${gauge.key}"]`, place);
    setText($('output', box), gauge.words);
    setText($('small', box), gauge.detail);
    draw($('canvas', box), past.get(gauge.key) ?? []);
  }
  setText($('#gpu-note'), note);
  $('#gpu-note').hidden = !note;
}

function redraw() {
  document.querySelectorAll('#gauges .gauge').forEach((box) => draw($('canvas', box), past.get(box.dataset.key) ?? []));
}

function draw(canvas, curve) {
  const width = canvas.clientWidth;
  if (!width) return;
  const scale = devicePixelRatio || 1;
  canvas.width = width * scale;
  canvas.height = HEIGHT * scale;
  const pen = canvas.getContext('2d');
  pen.scale(scale, scale);
  const colour = (name) => getComputedStyle(document.body).getPropertyValue(name).trim();
  const x = (index) => width - (curve.length - 1 - index) * (width / (LENGTH - 1));
  const y = (share) => HEIGHT - 1.5 - share * (HEIGHT - 5);
  const known = curve.map((share, index) => [index, share]).filter(([, share]) => share !== null);
  if (known.length < 1) return;
  pen.beginPath();
  known.forEach(([index, share], at) => (at ? pen.lineTo(x(index), y(share)) : pen.moveTo(x(index), y(share))));
  pen.strokeStyle = colour('--desk-accent');
  pen.lineWidth = 1.5;
  pen.lineJoin = 'round';
  pen.stroke();
  pen.lineTo(x(known.at(-1)[0]), HEIGHT);
  pen.lineTo(x(known[0][0]), HEIGHT);
  pen.closePath();
  pen.fillStyle = colour('--desk-accent-soft');
  pen.fill();
}
