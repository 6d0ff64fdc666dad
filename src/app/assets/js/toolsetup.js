// Of a tool server in the Tools panel: how it runs, and signing in to it.
import { h, setText } from './dom.js';
import { call } from './http.js';

const drafts = new Map(); // what was typed and not saved, by server: a card may be painted anew meanwhile
const pages = new Map(); // where a person signs in, by server

export function forgetDrafts() { drafts.clear(); }

// What a card shows beyond the server itself, for whoever keeps unchanged cards. A page that was used counts no more.
export function pending(each) {
  const page = pages.get(each.name);
  if (page && (each.state !== 'needs_sign_in' || !each.signing_in || page.until < Date.now())) pages.delete(each.name);
  return pages.get(each.name)?.url ?? '';
}

export function signing(each, done) {
  if (each.state !== 'needs_sign_in') return null;
  const told = h('p', { class: 'wrong', role: 'alert' });
  const page = pages.get(each.name);
  const again = h('button', { type: 'button', class: `button${page ? ' small' : ' primary'}`, 'data-focus': `sign in ${each.name}`, 'aria-label': `${page ? 'Start over with' : 'Sign in to'} ${each.name}`, onclick: (event) => ask(event.currentTarget, each, told, done) }, page ? 'Start over' : 'Sign in');
  if (!page) return h('div', { class: 'question' }, h('p', {}, each.message), again, told);
  return h('div', { class: 'question' },
    h('p', {}, 'You are sent to ', h('code', { class: 'host' }, page.host), '. Go on only if you know it as the place for this account. LM Desk does not see your password there.'),
    h('div', { class: 'acts' },
      h('a', { class: 'button primary', href: page.url, target: '_blank', rel: 'noopener noreferrer', 'data-focus': `open ${each.name}`, 'aria-label': `Continue to ${page.host} to sign in to ${each.name}, in a new tab` }, 'Continue in a new tab'),
      again),
    h('p', { class: 'hint' }, `Come back within ${Math.round(page.seconds / 60)} minutes; this panel notices by itself.`), told);
}

async function ask(button, each, told, done) {
  button.disabled = true;
  setText(told, '');
  try {
    const page = await call('POST', `tool-servers/${encodeURIComponent(each.name)}/sign-in`, undefined, { timeout: 0 });
    if (!/^https?:\/\//i.test(page.url)) throw new Error('That is no address a browser can open.');
    pages.set(each.name, { ...page, until: Date.now() + page.seconds * 1000 });
    await done(`open ${each.name}`);
  } catch (problem) {
    setText(told, [problem.message, problem.hint].filter(Boolean).join(' '));
    button.disabled = false;
  }
}

export function arrangement(each, fold, act) {
  const typed = drafts.get(each.name) ?? {};
  const field = (name, value, label, hint, more) => h('label', {}, label,
    h('input', { name, value: typed[name] ?? value, autocomplete: 'off', 'data-focus': `${name} ${each.name}`, 'aria-label': `${label}: ${each.name}`, ...more }),
    hint ? h('small', {}, hint) : null);
  const number = { type: 'number', min: '0.1', step: 'any', inputmode: 'decimal' };
  const form = h('form', { class: 'arrange' },
    h('div', { class: 'pair' },
      field('start_seconds', each.start_seconds, 'Seconds to start', '', { ...number, max: '3600', placeholder: '60' }),
      field('call_seconds', each.call_seconds ?? '', 'Seconds for a call, at most', '', { ...number, max: '86400', placeholder: 'As the agent says' })),
    each.transport === 'http' ? null : field('inherit_env', each.inherit_env.join(', '), 'Variables of yours it also gets', 'Names alone, with commas between. What a server gets is part of what you say yes to, so you are asked again.', { placeholder: 'HTTPS_PROXY, SSL_CERT_FILE', spellcheck: 'false' }),
    h('button', { class: 'button small', 'data-focus': `save ${each.name}`, 'aria-label': `Save how ${each.name} runs` }, 'Save'));
  form.addEventListener('input', () => drafts.set(each.name, Object.fromEntries(new FormData(form))));
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const given = Object.fromEntries(new FormData(form));
    const saved = drafts.get(each.name);
    const changes = {};
    for (const name of ['start_seconds', 'call_seconds']) changes[name] = given[name] === '' ? null : Number(given[name]);
    if ('inherit_env' in given) changes.inherit_env = given.inherit_env.split(/[\s,]+/).filter(Boolean);
    const kept = await act(form.querySelector('button'), changes);
    if (kept && drafts.get(each.name) === saved) drafts.delete(each.name); // else somebody typed on meanwhile
  });
  fold.append(form);
  return fold;
}
