// Runs before anything is painted: the theme, and a place where Gradio's parts meet our scripts.
(() => {
  const root = document.documentElement;
  const system = matchMedia('(prefers-color-scheme: dark)');
  const remembered = () => { try { return localStorage.getItem('desk.theme'); } catch { return null; } };
  const dark = () => (remembered() ?? (system.matches ? 'dark' : 'light')) === 'dark';
  const paint = () => {
    root.classList.toggle('dark', dark());
    document.body?.classList.toggle('dark', dark());
  };
  for (const side of ['left', 'right']) {
    try { if (localStorage.getItem(`desk.hide-${side}`)) root.classList.add(`hide-${side}`); } catch { /* private window */ }
  }
  paint();
  system.addEventListener('change', paint);
  addEventListener('DOMContentLoaded', () => {
    paint();
    // Gradio sets the class itself, from the system alone.
    new MutationObserver(() => { if (document.body.classList.contains('dark') !== dark()) paint(); })
      .observe(document.body, { attributes: true, attributeFilter: ['class'] });
  });

  const parts = new Map();
  const waiting = new Map();
  const ears = new Map();
  const last = new Map();
  window.desk = {
    mount(name, element, extra) {
      parts.set(name, { element, extra });
      waiting.get(name)?.forEach((resolve) => resolve(parts.get(name)));
      waiting.delete(name);
    },
    part: (name) => new Promise((resolve) => {
      if (parts.has(name)) resolve(parts.get(name));
      else waiting.set(name, [...(waiting.get(name) ?? []), resolve]);
    }),
    hear(name, value) { last.set(name, value); ears.get(name)?.(value); },
    listen(name, ear) { ears.set(name, ear); if (last.has(name)) ear(last.get(name)); },
    picked: (kind, value) => ears.get('picked')?.({ kind, value }),
    theme: {
      dark,
      set(wanted) {
        try { localStorage.setItem('desk.theme', wanted ? 'dark' : 'light'); } catch { /* private window */ }
        paint();
      },
    },
  };
})();
