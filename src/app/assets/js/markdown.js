// What a model wrote, rendered by the server, put into the page.
const painted = new WeakMap();

// The one place where HTML goes in, and nothing but the `…_html` that app/markdown.py made goes here: it says
// why that is safe. What is the same as before stays, with the selection in it and where it is scrolled to.
export function paintMarkdown(node, html) {
  if ((painted.get(node) ?? '') === html) return;
  painted.set(node, html);
  const fresh = document.createElement('template');
  fresh.innerHTML = html;
  const parts = [...fresh.content.childNodes];
  let same = 0;
  while (same < parts.length && node.childNodes[same]?.isEqualNode(parts[same])) same += 1;
  while (node.childNodes.length > same) node.lastChild.remove();
  node.append(...parts.slice(same));
}
