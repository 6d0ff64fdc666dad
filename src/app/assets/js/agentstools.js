// Which tools an agent may use: of each tool server none, all or chosen ones, and what is asked before a call.
import { h } from './dom.js';
import { problems } from './agentsfields.js';

const MODES = [['ask', 'Ask before each call'], ['read-only', 'Ask unless it only reads'], ['auto', 'Never ask']];
const USES = [['none', 'No tools'], ['all', 'All tools'], ['some', 'Chosen tools']];

export function toolsSection({ kit, draft, locked, changed }) {
  const servers = kit?.servers ?? [];
  const gone = [...new Set(draft.tools.map((each) => each.server))].filter((name) => !servers.some((each) => each.name === name));
  let chosen = [...draft.tools];
  const list = h('div', { class: 'servers' });
  const node = h('fieldset', { class: 'field wide' }, h('legend', {}, 'Tools'),
    h('small', {}, servers.length ? 'What each costs is read by the model with every request.' : 'There are no tool servers yet. The Tools panel finds those of LM Studio, Claude, Cursor and VS Code, and adds others.'),
    servers.length ? null : h('button', { type: 'button', class: 'button small open-tools', 'data-act': 'toolservers', 'aria-haspopup': 'dialog' }, 'Open the Tools panel'),
    list, h('div', { class: 'notes', role: 'status' }, problems('tools')));

  const set = (name, entries) => {
    chosen = [...chosen.filter((each) => each.server !== name), ...entries];
    changed(chosen);
  };

  list.append(...servers.map(card), ...gone.map((name) => card({ name, title: '', words: 'not here now', tools: [] })));
  return node;

  function card(server) {
    const { name } = server;
    const mine = () => chosen.filter((each) => each.server === name);
    let mode = mine()[0]?.approval ?? 'read-only';
    const single = h('ul', { class: 'tools', 'aria-label': `Tools of ${name}` });
    const use = h('select', { 'aria-label': `Tools of ${name}`, disabled: locked, onchange: () => pick(use.value) },
      USES.filter(([key]) => key !== 'some' || server.tools.length || mine().some((each) => each.tool)).map(([key, words]) => h('option', { value: key }, words)));
    const asks = modes(`Approval for ${name}`, mode, (value) => { mode = value; set(name, [{ server: name, tool: null, approval: value }]); });
    const kind = () => (mine().some((each) => each.tool === null) ? 'all' : mine().length ? 'some' : 'none');
    use.value = kind();
    paint(use.value);

    function pick(value) {
      if (value === 'none') set(name, []);
      if (value === 'all') set(name, [{ server: name, tool: null, approval: mode }]);
      if (value === 'some') set(name, server.tools.filter((each) => each.reads).map((each) => ({ server: name, tool: each.name, approval: mode })));
      paint(value);
    }

    function paint(value) {
      asks.hidden = value !== 'all';
      single.hidden = value !== 'some';
      if (value !== 'some') { single.replaceChildren(); return; }
      const extra = mine().filter((each) => each.tool && !server.tools.some((one) => one.name === each.tool)).map((each) => ({ name: each.tool, description: '', words: 'not here now', reads: false }));
      single.replaceChildren(...[...server.tools, ...extra].map(row));
    }

    function row(tool) {
      const now = () => mine().find((each) => each.tool === tool.name);
      const approval = modes(`Approval for ${tool.name}`, now()?.approval ?? mode, (value) => put(value));
      const put = (value) => set(name, [...mine().filter((each) => each.tool !== tool.name), ...(value ? [{ server: name, tool: tool.name, approval: value }] : [])]);
      approval.disabled = locked || !now();
      return h('li', {},
        h('label', { class: 'check' }, h('input', { type: 'checkbox', checked: Boolean(now()), disabled: locked, onchange: (event) => { put(event.target.checked ? approval.value : null); approval.disabled = !event.target.checked; } }),
          h('span', {}, h('b', {}, tool.name), h('small', {}, [tool.words, tool.reads ? 'only reads, it says' : '', tool.description].filter(Boolean).join(' · ')))),
        approval);
    }

    return h('div', { class: 'server' },
      h('div', { class: 'top' }, h('span', {}, h('b', {}, name), h('small', {}, [server.title, server.words].filter(Boolean).join(' · '))), use, asks), single);
  }

  function modes(label, value, act) {
    const made = h('select', { class: 'mode', 'aria-label': label, disabled: locked, onchange: () => act(made.value) }, MODES.map(([key, words]) => h('option', { value: key }, words)));
    made.value = value;
    return made;
  }
}
