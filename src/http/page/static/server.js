// Calls to the server, with the token that the visitor entered.

const TOKEN = "embedd-token";

export const base = new URL(".", location.href);

export class Failure extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

// Only for this tab, and never in an address.
export const token = {
  get: () => sessionStorage.getItem(TOKEN),
  set: (value) => sessionStorage.setItem(TOKEN, value),
  clear: () => sessionStorage.removeItem(TOKEN),
};

// Sends a request and returns the parsed reply, its headers and the time that it took in milliseconds.
export async function call(path, body) {
  const headers = token.get() ? { authorization: `Bearer ${token.get()}` } : {};
  const options = { headers, cache: "no-store", signal: AbortSignal.timeout(60_000) };
  if (body !== undefined) {
    headers["content-type"] = "application/json";
    Object.assign(options, { method: "POST", body: JSON.stringify(body) });
  }
  const started = performance.now();
  let response;
  let text;
  try {
    response = await fetch(new URL(path, base), options);
    text = await response.text();
  } catch (error) {
    const isLate = error.name === "TimeoutError";
    throw new Failure(0, isLate ? "The server did not answer in time." : "The server cannot be reached.");
  }
  const took = performance.now() - started;
  const reply = parse(text);
  if (!response.ok) {
    throw new Failure(response.status, explain(response, reply));
  }
  return { reply, headers: response.headers, took };
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

// What the error means and what to do. Each protocol has its own form of errors.
function explain(response, reply) {
  const error = reply?.error;
  const message = error?.message || (typeof error === "string" ? error : "") || response.statusText;
  const retry = response.headers.get("retry-after");
  const later = retry ? ` Try again in ${retry} s.` : "";
  switch (response.status) {
    case 401:
      return token.get() ? "The server does not accept this token." : "The server requires a token.";
    case 403:
      return (
        "The server rejects requests of web pages under this address, because it requires no token. Open this page " +
        "by an IP address or as localhost, or start the server with --token-file or --cors-origin."
      );
    case 429:
      return `The server is overloaded: ${message}.${later}`;
    case 503:
      return `The server is not available: ${message}.${later}`;
    default:
      return `The server answered ${response.status}: ${message}`;
  }
}
