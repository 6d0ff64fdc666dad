// The Tools panel without a server: what tools are for, and how the first one gets here.
import { copyText, h, setText } from './dom.js';

const EXAMPLE = JSON.stringify({ mcpServers: { files: { command: 'npx', args: ['-y', '@modelcontextprotocol/server-filesystem', '/a/folder/of/yours'] } } }, null, 2);

export function noTools(files) {
  const [own, ...others] = files;
  return h('div', { class: 'none' },
    h('p', {}, 'With tools an agent can do things: read your files, look up a page, remember something. They come from MCP servers, small programs or web addresses that many people offer.'),
    h('p', {}, others.length ? `None is configured in ${others.join(', ')} or in LM Desk's own file:` : "The servers of LM Studio, Claude, Cursor and VS Code show up here by themselves. Others go into LM Desk's own file:"),
    copied(own, 'the name of the file'),
    h('p', {}, 'This would let agents read and write in one folder (it needs Node.js):'),
    copied(EXAMPLE, 'the example'),
    h('p', {}, 'Save the file, and the server appears here. Nothing of it runs before you have seen its whole command and said yes.'));
}

const copied = (text, what) => h('div', { class: 'copied' }, h('pre', { tabindex: '0', 'aria-label': what }, h('code', {}, text)),
  h('button', {
    type: 'button', class: 'button small', 'aria-label': `Copy ${what}`,
    onclick: async ({ currentTarget: button }) => {
      await copyText(text, button);
      setText(button, 'Copied');
      setTimeout(() => setText(button, 'Copy'), 1500);
    },
  }, 'Copy'));
