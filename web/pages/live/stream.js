// Server-Sent Events by fetch(): EventSource can't send an Authorization header, and a token never stands in a URL.

const LONGEST_PAUSE_MS = 15000;
const SILENT_MS = 40000; // the server says something every 15 s

/** The pause before try number `tries` (from 1), ms: doubled each time, with chance in it, for all come back at once. */
export function pause(tries) {
  const most = Math.min(500 * 2 ** (tries - 1), LONGEST_PAUSE_MS);
  return most / 2 + Math.random() * (most / 2);
}

/** Cuts text into events {event, data} as it comes; comments are dropped. */
export class Events {
  #rest = "";
  *take(text) {
    this.#rest += text;
    for (let end; (end = this.#rest.indexOf("\n\n")) >= 0; this.#rest = this.#rest.slice(end + 2)) {
      let event = "message";
      const data = [];
      for (const line of this.#rest.slice(0, end).split("\n")) {
        if (line.startsWith("event: ")) event = line.slice(7);
        if (line.startsWith("data: ")) data.push(line.slice(6));
      }
      if (data.length) yield { event, data: data.join("\n") };
    }
  }
}

/**
 * Opens `url`, calls `heard(event, data)` for each event, and opens it again when it ends, for ever.
 * `told(state, text)`: live, down (another try follows), refused (none does, until somebody changes something).
 * `refused(status)` may give another URL, to be opened at once. Returns a function that ends it.
 */
export function follow(url, token, { heard, told, refused }) {
  const ended = new AbortController();
  (async () => {
    for (let tries = 1; !ended.signal.aborted; tries++) {
      const attempt = new AbortController();
      const stop = () => attempt.abort();
      ended.signal.addEventListener("abort", stop);
      let watch = setTimeout(stop, SILENT_MS);
      let why = "the connection was lost";
      try {
        const answer = await fetch(url, {
          headers: token ? { Authorization: `Bearer ${token}` } : {}, cache: "no-store", signal: attempt.signal,
        });
        if (!answer.ok) {
          const said = await answer.json().catch(() => null);
          why = said?.error?.message ?? `the server answered ${answer.status}`;
          const other = refused(answer.status);
          if (other) { url = other; tries = 0; continue; }
          if (answer.status < 500 && answer.status !== 429) { told("refused", why, answer.status); return; }
        } else {
          const events = new Events();
          const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
          for (let part; !(part = await reader.read()).done;) {
            clearTimeout(watch);
            watch = setTimeout(stop, SILENT_MS);
            for (const { event, data } of events.take(part.value)) {
              if (event === "snapshot") tries = 0;
              const last = heard(event, data);
              if (last) why = last;
            }
          }
        }
      } catch {
        // A network that is away, a stream that broke off, a server that is silent: all of them are tried again.
      } finally {
        clearTimeout(watch);
        attempt.abort();
        ended.signal.removeEventListener("abort", stop);
      }
      if (ended.signal.aborted) return;
      const wait = pause(Math.max(tries, 1));
      told("down", `disconnected: ${why} Next try in ${Math.max(1, Math.round(wait / 1000))} s.`);
      await new Promise((go) => {
        const timer = setTimeout(go, wait);
        const now = () => { clearTimeout(timer); go(); };
        addEventListener("online", now, { once: true });
        ended.signal.addEventListener("abort", now, { once: true });
      });
    }
  })();
  return () => ended.abort();
}
