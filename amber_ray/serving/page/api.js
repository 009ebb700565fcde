// Calls to the server that this page came from. Everything is relative, so that a mounted prefix is kept.

let token = sessionStorage.getItem("amber-token") || "";

export function useToken(value) {
  token = value;
  sessionStorage.setItem("amber-token", value);
}

export class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || `the server answered ${status}`);
    this.status = status;
  }
}

export async function call(path, { headers = {}, ...options } = {}) {
  const sent = token ? { Authorization: `Bearer ${token}`, ...headers } : headers;
  const answer = await fetch(path.replace(/^\//, ""), { ...options, headers: sent });
  if (!answer.ok) {
    const problem = await answer.json().catch(() => ({}));
    throw new Refused(answer.status, problem);
  }
  return answer;
}

export async function json(path, options) {
  return (await call(path, options)).json();
}

export function post(path, body, headers = {}) {
  return json(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", ...headers },
    body: JSON.stringify(body),
  });
}

// Server-sent events over fetch, since EventSource can't send a token: yields [name, data].
export async function* events(path, signal) {
  const answer = await call(path, { signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    rest += value;
    for (let end = rest.indexOf("\n\n"); end >= 0; end = rest.indexOf("\n\n")) {
      const lines = rest.slice(0, end).split("\n");
      rest = rest.slice(end + 2);
      const of = (name) => lines.find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
      if (of("event")) yield [of("event"), JSON.parse(of("data"))];
    }
  }
}
