// Same-origin JSON under ./ui. Every failure is a Problem with a sentence for a person.
export class Problem extends Error {
  constructor({ code, message, hint = '', ...rest }) {
    super(message);
    Object.assign(this, { code, hint, ...rest });
  }
  // Also while it is only just starting: both pass by themselves.
  get offline() { return this.code === 'server_unreachable' || this.code === 'starting'; }
}

const away = () => new Problem({
  code: 'server_unreachable',
  message: "LM Desk's server does not answer.",
  hint: 'The page keeps trying and goes on by itself.',
});

export async function call(method, path, body, { timeout = 20000 } = {}) {
  let response;
  try {
    response = await fetch(`./ui/${path}`, {
      method,
      cache: 'no-store',
      headers: body === undefined ? {} : { 'content-type': 'application/json' },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: timeout ? AbortSignal.timeout(timeout) : undefined,
    });
  } catch { throw away(); }
  if (response.status === 204) return null;
  let told = null;
  try { told = await response.json(); } catch { /* not ours: a proxy's page, or the server is starting */ }
  if (response.ok && told !== null) return told;
  if (response.status === 401) { location.reload(); }
  if (told?.message || told?.detail) {
    throw new Problem({ code: told.code ?? 'failed', message: told.message ?? told.detail, hint: told.hint, chats: told.chats, parameter: told.parameter });
  }
  throw away();
}
