// A call that waits for a person: exactly what would run, and what can be said to it.
import { $, h, setText } from './dom.js';
import { call } from './http.js';
import { announce } from './conversation.js';
import { letGo } from './scroll.js';

const QUIET = 2000; // so long after the last key nobody is typing
let lastKey = 0;
let made = 0;
document.addEventListener('keydown', () => { lastKey = Date.now(); }, true);

const SCOPES = [
  ['', 'This call only'],
  ['run', 'This tool, until the run ends'],
  ['tool', 'This tool, in every run'],
  ['server', 'All tools of the server, in every run'],
];

// `after` is called when the person has decided, or nobody waits any more.
export function approvalForm(runId, asked, after) {
  const id = `approval-${++made}`;
  const until = Date.now() + asked.left * 1000;
  const exact = h('pre', { class: 'exact', tabindex: 0, 'aria-label': 'Arguments' }, asked.arguments);
  const box = h('textarea', { class: 'exact', 'aria-label': 'Arguments as JSON', spellcheck: 'false', hidden: true, rows: Math.min(16, asked.arguments.split('\n').length + 1), oninput: () => check() });
  const wrong = h('p', { class: 'wrong', id: `${id}-wrong`, role: 'alert', hidden: true });
  const left = h('span', { class: 'left' });
  const scope = h('select', { id: `${id}-scope` }, SCOPES.map(([value, words]) => h('option', { value }, words)));
  const message = h('input', { type: 'text', id: `${id}-message`, maxlength: 4000, placeholder: 'A word for the model, if you deny' });
  const approve = h('button', { type: 'button', class: 'button primary', onclick: () => say('approve') }, 'Approve');
  const edit = h('button', { type: 'button', class: 'button', 'aria-pressed': 'false', onclick: () => toggle() }, 'Edit arguments');
  const deny = h('button', { type: 'button', class: 'button', onclick: () => say('deny') }, 'Deny');
  const form = h('section', { class: 'approval', role: 'group', tabindex: -1, 'aria-labelledby': `${id}-title`, 'aria-describedby': `${id}-why`, 'data-call': asked.call_id },
    h('h3', { id: `${id}-title` }, 'May ', h('code', {}, asked.name), ' run?'),
    h('p', { class: 'why', id: `${id}-why` }, asked.why),
    h('ul', { class: 'hints' }, asked.hints.map(({ kind, words }) => h('li', { class: kind }, words))),
    exact, box, wrong,
    h('div', { class: 'say' }, h('div', { class: 'acts' }, approve, edit),
      h('label', { class: 'scope', for: `${id}-scope` }, h('span', {}, 'Remember for'), scope)),
    h('div', { class: 'say' }, deny, h('label', { class: 'sr', for: `${id}-message` }, 'Message with the denial'), message),
    h('p', { class: 'clock' }, 'Counts as denied in ', left, '.'));
  const timer = setInterval(tick, 500);
  tick();

  function tick() {
    const rest = Math.max(0, Math.round((until - Date.now()) / 1000));
    setText(left, rest >= 60 ? `${Math.floor(rest / 60)} min ${rest % 60} s` : `${rest} s`);
    form.classList.toggle('soon', rest < 30);
    if (!rest) clearInterval(timer);
  }

  function toggle() {
    const editing = box.hidden;
    if (editing) box.value = asked.arguments;
    box.hidden = !editing;
    exact.hidden = editing;
    edit.setAttribute('aria-pressed', String(editing));
    setText(edit, editing ? 'Do not edit' : 'Edit arguments');
    setText(approve, editing ? 'Approve as edited' : 'Approve');
    check();
    if (editing) box.focus();
  }

  // What the person made of the arguments; null where that is no JSON object.
  function edited() {
    try {
      const value = JSON.parse(box.value);
      return value && typeof value === 'object' && !Array.isArray(value) ? value : null;
    } catch { return null; }
  }

  function check() {
    const bad = !box.hidden && edited() === null;
    tell(bad ? jsonProblem(box.value) : '');
    box.toggleAttribute('aria-invalid', bad);
    if (bad) box.setAttribute('aria-describedby', wrong.id); else box.removeAttribute('aria-describedby');
    approve.disabled = bad;
  }

  function tell(words) { wrong.hidden = !words; setText(wrong, words); }

  async function say(decision) {
    const buttons = [approve, edit, deny];
    const body = { decision, arguments_hash: asked.arguments_hash };
    if (decision === 'approve') {
      if (!box.hidden) body.written = box.value; // as it stands: numbers of ours would lose digits
      if (scope.value) body.remember = scope.value;
    } else if (message.value.trim()) body.message = message.value.trim();
    for (const button of buttons) button.disabled = true;
    try {
      await call('POST', `runs/${encodeURIComponent(runId)}/approvals/${encodeURIComponent(asked.call_id)}`, body);
      announce(decision === 'approve' ? `${asked.name} may run.` : `${asked.name} may not run.`);
      over();
      after();
    } catch (problem) {
      if (!form.isConnected) return;
      for (const button of buttons) button.disabled = false;
      tell(`${problem.message} ${problem.hint ?? ''}`.trim());
      if (problem.code === 'approval_closed') after();
    }
  }

  function over() { clearInterval(timer); form.remove(); }

  return { form, name: asked.name, over };
}

function jsonProblem(text) {
  try { JSON.parse(text); } catch (error) { return `This is not JSON yet: ${error.message}`; }
  return 'The arguments must be an object in braces.';
}

// Takes the person to a new request, unless that would tear them away from what they write.
export function greet({ form, name }) {
  announce(`${name} waits for you.`);
  const now = document.activeElement;
  const writes = now?.matches?.('input, textarea, select') && (now.value || Date.now() - lastKey < QUIET);
  const elsewhere = now?.closest?.('.approval, .toasts') || $('dialog[open]:not(:has(.approval))');
  if (elsewhere || !form.checkVisibility()) return;
  if (!writes) form.focus({ preventScroll: true });
  // From its beginning, also where the whole of it is taller than the window.
  letGo();
  const whole = form.closest('li') ?? form;
  whole.scrollIntoView({ block: whole.offsetHeight > innerHeight / 2 ? 'start' : 'nearest' });
}
