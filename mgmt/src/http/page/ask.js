// Asks the instance, with the token if it wants one.

const KEY = "tidegate-token";
const PATIENCE_MS = 5000;

// The instance does not tell those who do not know its token.
export class NeedsToken extends Error {}

export function hasToken() {
  return sessionStorage.getItem(KEY) !== null;
}

export function setToken(token) {
  if (token === null) sessionStorage.removeItem(KEY);
  else sessionStorage.setItem(KEY, token);
}

export async function ask(path) {
  const token = sessionStorage.getItem(KEY);
  const response = await fetch(path, {
    headers: token === null ? {} : { Authorization: `Bearer ${token}` },
    cache: "no-store",
    credentials: "omit",
    signal: AbortSignal.timeout(PATIENCE_MS),
  });
  if (response.status === 401) throw new NeedsToken();
  if (!response.ok) throw new Error((await response.text()).trim() || `status ${response.status}`);
  return response.json();
}
