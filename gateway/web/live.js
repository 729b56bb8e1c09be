// Hearing of new mail: by an event stream while the server grants one, else
// by asking every five seconds. Tells both what happens and how it listens.

const POLL_MS = 5000;
const RETRY_MS = 60000;

// ON.change(): something may be new; ON.state("live" | "polling" | "offline").
export function listen(on) {
  let source = null;
  let poll = 0;
  let retry = 0;
  let stopped = false;
  let now = "";

  const say = (state) => {
    if (state !== now && !stopped) {
      now = state;
      on.state(state);
    }
  };

  const ask = async () => {
    try {
      await on.change();
      say(source?.readyState === EventSource.OPEN ? "live" : "polling");
    } catch (e) {
      if (e.status === 0 || e.status === 503) say("offline");
    }
  };

  const startPolling = () => {
    if (!poll && !stopped) poll = setInterval(ask, POLL_MS);
  };

  const stopPolling = () => {
    clearInterval(poll);
    poll = 0;
  };

  const open = () => {
    if (stopped) return;
    source?.close();
    source = new EventSource("/api/events");
    source.addEventListener("ready", () => {
      stopPolling();
      ask();
    });
    source.addEventListener("mail", ask);
    source.addEventListener("logout", ask);
    source.onerror = () => {
      startPolling();
      ask();
      // Refused for good: the browser does not try again by itself.
      if (source.readyState === EventSource.CLOSED) {
        clearTimeout(retry);
        retry = setTimeout(open, RETRY_MS);
      }
    };
  };

  const online = () => { ask(); open(); };
  const offline = () => say("offline");
  const shown = () => { if (!document.hidden) ask(); };
  addEventListener("online", online);
  addEventListener("offline", offline);
  document.addEventListener("visibilitychange", shown);
  open();

  return () => {
    stopped = true;
    stopPolling();
    clearTimeout(retry);
    source?.close();
    removeEventListener("online", online);
    removeEventListener("offline", offline);
    document.removeEventListener("visibilitychange", shown);
  };
}
