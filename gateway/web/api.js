// The JSON API. Every failure is an ApiError with a code from the server, or
// "offline" when it did not answer.

export class ApiError extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

let token = "";
export const signedOut = new EventTarget();

export function setToken(value) {
  token = value;
}

const wait = (ms) => new Promise((done) => setTimeout(done, ms));

async function once(method, path, body, timeout) {
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (method !== "GET") headers["X-CSRF-Token"] = token;
  try {
    return await fetch(path, {
      method, headers, body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "same-origin", cache: "no-store", signal: AbortSignal.timeout(timeout),
    });
  } catch {
    throw new ApiError(0, "offline", "PennCloud cannot be reached at the moment.");
  }
}

async function failure(answer) {
  const data = await answer.json().catch(() => ({}));
  const error = data.error ?? {};
  if (answer.status === 401 && error.code === "unauthenticated")
    signedOut.dispatchEvent(new Event("out"));
  return new ApiError(answer.status, error.code ?? "unknown",
    error.message ?? `The server answered ${answer.status}.`);
}

// Reading may be tried again; writing is the person's decision.
async function request(method, path, body, timeout = 20000) {
  const tries = method === "GET" ? 3 : 1;
  for (let i = 1; ; i++) {
    const answer = await once(method, path, body, timeout);
    if (answer.ok) return answer.status === 204 ? null : answer.json();
    if (answer.status !== 503 || i === tries) throw await failure(answer);
    await wait(400 * i);
  }
}

const part = encodeURIComponent;

export const api = {
  signup: (username, password, display_name) => request("POST", "/api/signup", { username, password, display_name }),
  login: (username, password) => request("POST", "/api/login", { username, password }),
  logout: () => request("POST", "/api/logout", {}),
  me: () => request("GET", "/api/me"),
  password: (old_password, new_password) => request("POST", "/api/me/password", { old_password, new_password }),
  folders: () => request("GET", "/api/mail/folders"),
  list: (folder, before, limit = 50) => request("GET",
    `/api/mail/folders/${part(folder)}/messages?limit=${limit}${before ? `&before=${part(before)}` : ""}`),
  message: (uid) => request("GET", `/api/mail/messages/${part(uid)}`),
  act: (uids, action, folder) => request("POST", "/api/mail/messages/actions", { uids, action, folder }),
  send: (mail) => request("POST", "/api/mail/messages", mail, 120000),
  draft: (mail) => request("POST", "/api/mail/drafts", mail, 60000),
  rawUrl: (uid) => `/api/mail/messages/${part(uid)}/raw`,
  htmlUrl: (uid) => `/api/mail/messages/${part(uid)}/html`,
  partUrl: (uid, number) => `/api/mail/messages/${part(uid)}/parts/${part(number)}`,
};
