// Settings, Providers: the list with how each is, and the form to add or change one.
import { $, $$, h, iconButton, setText } from './dom.js';
import { call } from './http.js';
import { choice, complain, field, keepProvider, line, listOf, patch, removeProvider, told } from './settingsio.js';

const KINDS = [['lmstudio', 'LM Studio'], ['ollama', 'Ollama'], ['llamacpp', 'llama-server (llama.cpp)'], ['openai', 'OpenAI-compatible (vLLM, SGLang, OpenAI, …)'], ['huggingface', 'Hugging Face']];
const USUAL = { lmstudio: 'http://127.0.0.1:1234', ollama: 'http://127.0.0.1:11434', llamacpp: 'http://127.0.0.1:8080', openai: 'http://127.0.0.1:8000', huggingface: 'https://router.huggingface.co' };

export function providersPanel({ saved, say }) {
  const list = h('ul', { class: 'providers' });
  const listed = h('div', { class: 'listed' },
    h('p', { class: 'said' }, 'Where models come from. A change counts at once; answers being written by a provider that goes end there.'),
    list,
    h('button', { type: 'button', class: 'button add-provider', onclick: () => edit(null) }, 'Add a provider'),
    hubToken(saved));
  const node = h('div', { class: 'panel' }, listed);
  let form = null;

  const panel = { node, paint, dirty: () => Boolean(form?.dataset.dirty), save: () => form?.requestSubmit() };

  function paint() {
    const rows = new Map([...list.children].map((row) => [row.dataset.key, row]));
    const wanted = told.view.providers.map((each) => {
      const key = JSON.stringify(each);
      return rows.get(key) ?? row(each, key);
    });
    if (wanted.length === list.children.length && wanted.every((each, index) => each === list.children[index])) return;
    const focused = list.contains(document.activeElement) ? document.activeElement.dataset.does : null;
    list.replaceChildren(...wanted);
    if (focused) ($$('[data-does]', list).find((each) => each.dataset.does === focused) ?? $('.add-provider', node)).focus();
  }

  function row(each, key) {
    const locked = Object.values(each.locked)[0];
    const does = (what) => ({ 'data-does': `${what} ${each.name}` });
    return h('li', { 'data-key': key, 'data-name': each.name },
      h('div', { class: 'top' },
        h('b', {}, each.title), each.title === each.kind_words ? null : h('small', {}, each.kind_words),
        each.is_remote ? h('span', { class: 'tag' }, 'Remote') : null,
        h('span', { class: 'acts' },
          h('button', { type: 'button', class: 'button small', 'aria-label': `Edit ${each.name}`, onclick: () => edit(each), ...does('edit') }, 'Edit'),
          h('button', { type: 'button', class: 'button small', 'aria-label': `Switch ${each.enabled ? 'off' : 'on'} ${each.name}`, disabled: Boolean(each.locked.enabled), title: each.locked.enabled, onclick: (event) => turn(event.currentTarget, each), ...does('switch') }, each.enabled ? 'Switch off' : 'Switch on'),
          each.removable ? iconButton('trash', `Remove ${each.name}`, (event) => remove(event.currentTarget, each), does('remove')) : null)),
      each.addresses.map((one) => h('p', { class: 'address', 'data-state': one.state }, h('i', { 'aria-hidden': true }),
        h('span', {}, h('code', {}, one.url), ' ', one.words, one.hint ? h('small', {}, one.hint) : null))),
      locked ? h('small', { class: 'locked', 'data-icon': 'lock' }, locked) : null);
  }

  async function turn(button, each) {
    button.disabled = true;
    try {
      const undo = await patch({ providers: { [each.name]: { enabled: each.enabled ? false : null } } });
      saved(`${each.title} is switched ${each.enabled ? 'off' : 'on'}.`, undo);
    } catch (problem) { trouble(problem); }
    button.disabled = false;
  }

  async function remove(button, each) {
    button.disabled = true;
    try {
      const undo = await removeProvider(each.name);
      saved(`${each.title} is removed.`, undo);
    } catch (problem) { trouble(problem); }
    button.disabled = false;
  }

  function trouble(problem) {
    say(`${problem.message} ${problem.hint ?? ''}`);
    paint();
  }

  function edit(each) {
    say('');
    form = build(each, shut, (words, undo) => { shut(each); saved(words, undo); });
    node.replaceChildren(form);
    $('input:not([disabled]), select:not([disabled])', form)?.focus();
  }

  function shut(each) {
    form = null;
    node.replaceChildren(listed);
    paint();
    ($$('[data-does]', list).find((one) => one.dataset.does === `edit ${each?.name}`) ?? $('.add-provider', node)).focus();
  }

  paint();
  return panel;
}

// The form

function build(each, shut, done) {
  const locked = each?.locked ?? {};
  const named = each ? null : line('', { placeholder: 'work', maxlength: 40, required: true, autofocus: true });
  const kind = choice(KINDS, each?.kind ?? 'ollama');
  const urls = line(each?.urls.join(', ') ?? '', { inputmode: 'url' });
  const token = h('input', { type: 'password', autocomplete: 'new-password', placeholder: each?.token_set ? 'Set. Leave empty to keep it' : 'None', maxlength: 2000 });
  const forget = each?.token_set ? h('input', { type: 'checkbox' }) : null;
  const seconds = h('input', { type: 'number', min: 1, max: 600, step: 'any', value: each?.timeout ?? 10 });
  const again = h('input', { type: 'number', min: 0, max: 10, step: 1, value: each?.retry_attempts ?? 2 });
  const parallel = h('input', { type: 'number', min: 1, max: 1000, step: 1, value: each?.parallel ?? '', placeholder: 'As many as come' });
  const remote = choice([['', 'By its address'], ['true', 'Yes: what is sent there leaves my machines'], ['false', 'No: it is mine']], each?.remote ?? '');
  const result = h('p', { class: 'result', role: 'status' });
  const look = h('button', { type: 'button', class: 'button', onclick: () => tryOut() }, 'Test');
  const urlLock = locked.base_url ?? locked.base_urls ?? '';

  const form = h('form', { class: 'provider-form', novalidate: true, 'aria-label': each ? `Edit ${each.name}` : 'Add a provider', onsubmit: (event) => { event.preventDefault(); save(); } },
    h('h3', {}, each ? each.title : 'Add a provider'),
    named ? field({ key: 'name', label: 'Name', hint: 'Your own word for it: letters, digits, - and _. Its models are called name:model.', control: named }) : null,
    field({ key: 'kind', label: 'Kind', control: kind, locked: locked.kind }),
    field({ key: 'base_url', label: 'Address', hint: 'Several with commas between become one provider each.', control: urls, locked: urlLock }),
    field({ key: 'token', label: 'API token', hint: 'Only if the server asks for one. It is kept in lmdesk.yaml, which then is readable by you alone.', control: token, locked: locked.token }),
    forget && !locked.token ? h('label', { class: 'check' }, forget, 'Remove the token') : null,
    h('details', {}, h('summary', {}, 'Patience and limits'),
      field({ key: 'timeout', label: 'Wait', hint: 'Seconds for its list of models and other small things.', control: seconds, locked: locked.timeout }),
      field({ key: 'retry_attempts', label: 'Try again', hint: 'How often, where that is safe.', control: again, locked: locked.retry_attempts }),
      field({ key: 'parallel', label: 'Requests at a time', hint: 'More wait their turn.', control: parallel, locked: locked.parallel }),
      field({ key: 'remote', label: 'Remote', hint: 'Remote providers answer only what you allow.', control: remote, locked: locked.remote })),
    result,
    h('div', { class: 'foot' }, h('p', { class: 'wrong', role: 'alert' }), look,
      h('button', { type: 'button', class: 'button', onclick: () => shut(each) }, 'Cancel'),
      h('button', { type: 'submit', class: 'button primary' }, 'Save')));
  form.addEventListener('input', () => { form.dataset.dirty = 'yes'; });
  const usual = () => { urls.placeholder = USUAL[kind.value]; };
  kind.addEventListener('input', usual);
  usual();
  return form;

  function entry() {
    const list = listOf(urls.value);
    const number = (input) => (input.value === '' ? null : Number(input.value));
    const all = {
      kind: kind.value,
      base_url: list.length === 1 ? list[0] : null,
      base_urls: list.length > 1 ? list : null,
      timeout: number(seconds) === 10 ? null : number(seconds),
      retry_attempts: number(again) === 2 ? null : number(again),
      parallel: number(parallel),
      remote: remote.value === '' ? null : remote.value === 'true',
      enabled: each && !each.enabled ? false : null,
    };
    // LM Studio's kind is its name, and its usual address needs no word.
    if (all.kind === (each?.name ?? named.value)) all.kind = null;
    if (token.value) all.token = token.value;
    else if (forget?.checked) all.token = null;
    return Object.fromEntries(Object.entries(all).filter(([key]) => !locked[key]));
  }

  async function save() {
    complain(form, null);
    const name = each?.name ?? named.value.trim();
    if (!name) { complain(form, { message: 'Give it a name.', parameter: 'name' }); return; }
    if (!each && told.view.providers.some((one) => one.name.toLowerCase() === name.toLowerCase())) {
      complain(form, { message: `There is a provider ${name} already.`, parameter: 'name' });
      return;
    }
    const button = $('[type=submit]', form);
    button.disabled = true;
    try {
      done(`${each?.title ?? name} is saved.`, await keepProvider(name, entry()));
    } catch (problem) { complain(form, named_as(problem), `providers.${name}.`); }
    button.disabled = false;
  }

  async function tryOut() {
    complain(form, null);
    look.disabled = true;
    const list = listOf(urls.value);
    const found = [];
    for (const url of list.length ? list : [undefined]) {
      result.dataset.state = 'wait';
      setText(result, `Looking${url ? ` at ${url}` : ''}…`);
      const asked = { kind: kind.value, base_url: url, name: each?.name, token: token.value || undefined };
      try { found.push(await call('POST', 'settings/try', asked)); }
      catch (problem) { setText(result, ''); complain(form, problem); look.disabled = false; return; }
    }
    const worst = ['bad', 'wait', 'ok'].find((each) => found.some((one) => one.state === each));
    result.dataset.state = worst;
    setText(result, found.map((one) => [one.words, one.hint, one.remote ? 'What you send there leaves your machines.' : ''].filter(Boolean).join(' ')).join(' '));
    result.scrollIntoView({ block: 'nearest' });
    look.disabled = false;
  }
}

// One field stands for both ways to say an address; a name that cannot be is the name's fault.
function named_as(problem) {
  const parameter = problem.parameter?.replace(/\.base_urls$/, '.base_url');
  const bad = parameter?.split('.').length === 2 && /letters, digits|means something/.test(problem.message);
  return Object.assign(problem, { parameter: bad ? 'name' : parameter });
}

function hubToken(saved) {
  const setting = told.view.settings.hf_token;
  const box = h('input', { type: 'password', autocomplete: 'new-password', maxlength: 500 });
  const button = h('button', { type: 'submit', class: 'button' }, 'Save');
  const forget = h('button', { type: 'button', class: 'button', onclick: () => send(null) }, 'Remove');
  const form = h('form', { class: 'hub-token', novalidate: true, onsubmit: (event) => { event.preventDefault(); if (box.value) send(box.value); } },
    field({ key: 'hf_token', label: 'Hugging Face token', hint: 'For downloads of models that are not for everybody.', control: box, locked: setting.reason }),
    h('div', { class: 'foot' }, h('p', { class: 'wrong', role: 'alert' }), forget, button));
  const paint = () => {
    const now = told.view.settings.hf_token;
    box.placeholder = now.value === 'set' ? 'Set' : 'None';
    forget.hidden = now.value !== 'set';
    forget.disabled = button.disabled = Boolean(now.reason);
  };
  async function send(value) {
    complain(form, null);
    try {
      const undo = await patch({ hf_token: value });
      box.value = '';
      paint();
      saved(value ? 'The token is saved.' : 'The token is removed.', undo);
    } catch (problem) { complain(form, problem); }
  }
  paint();
  return form;
}

