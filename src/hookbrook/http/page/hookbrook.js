// For pages that want more than EventSource gives; what and how: docs/streams.md, "hookbrook.js".
// Served is hookbrook.min.js beside this, which scripts/page.sh makes of it; 3 KB are all that it may have.

// A cursor is EPOCH-SEQ, and seqs grow along the log whatever the epoch.
const seq = (id) => +id.slice(id.lastIndexOf("-") + 1);

export class Brook extends EventTarget {
  #life = new AbortController();
  #run;
  #heard = 0;
  #retry = 2000;
  #cut = () => {};
  #wake = () => {};
  #set;
  lastEventId = "";
  readyState = 0;

  constructor(url, options) {
    super();
    this.url = new URL(url, location);
    this.#set = { watchdog: 45, credentials: "same-origin", ...options };
    // A page in the back/forward cache, or frozen, must hold neither a connection nor the lock.
    const rest = () => this.#pause();
    const go = () => this.#start();
    // Timers stand still while the machine sleeps: what has been silent for too long is dead.
    const look = () => {
      if (Date.now() - this.#heard > this.#set.watchdog * 1000) this.#cut();
      this.#wake();
    };
    const when = { pagehide: rest, freeze: rest, pageshow: go, resume: go, visibilitychange: look, online: look };
    // Some of these happen to the document, and do not bubble.
    for (const name in when) addEventListener(name, when[name], { capture: true, signal: this.#life.signal });
    go();
  }

  close() {
    this.readyState = 2;
    this.#life.abort();
    this.#pause();
  }

  #pause() {
    this.#run?.abort();
    this.#run = null;
    this.#wake();
  }

  #start() {
    if (this.#run || this.readyState > 1) return;
    this.#run = new AbortController();
    const { signal } = this.#run;
    if (this.#set.share && navigator.locks) this.#together(signal);
    else this.#follow(signal, this.lastEventId);
  }

  // One tab holds the lock and the connection and tells the others; when it goes, the next in the queue takes over.
  #together(signal) {
    const name = `brook ${this.#set.share} ${this.url}`;
    const tabs = new BroadcastChannel(name);
    const tell = (what) => signal.aborted || tabs.postMessage(what);
    signal.onabort = () => tabs.close();
    let early = [];
    let places = [];
    // A message is a frame, a place, or (empty) the question for one.
    tabs.onmessage = ({ data }) => {
      if (data == "") tell(this.lastEventId || "-0");
      else if (data.at) places.push(data); // texts have it, frames do not
      else if (early) early.push(data);
      else this.#take(data);
    };
    const lead = async () => {
      early = null;
      // The tab before may have told some of us more than others: go on where the last of us is.
      places = [this.lastEventId];
      tell("");
      await new Promise((done) => setTimeout(done, 100));
      places = places.filter(seq).sort((a, b) => seq(a) - seq(b));
      await this.#follow(signal, places[0], tell);
    };
    const queue = (options, then) => navigator.locks.request(name, options, then).catch(() => {});
    queue({ ifAvailable: true }, async (lock) => {
      if (lock) return lead();
      queue({ signal }, lead);
      // What was told before we came: by a connection of our own, until we have caught up.
      if (this.lastEventId || /[?&](after|since|last)=/.test(this.url))
        await this.#follow(signal, this.lastEventId, null, 1);
      else this.#say("open", 1);
      early?.forEach((frame) => this.#take(frame));
      early = null;
    });
  }

  async #follow(signal, place, tell, once) {
    const { token, watchdog, credentials } = this.#set;
    for (let tries = 0; !signal.aborted; tries++) {
      const cut = new AbortController();
      const stop = (this.#cut = () => cut.abort());
      let timer;
      let status;
      const heard = () => {
        this.#heard = Date.now();
        clearTimeout(timer);
        timer = setTimeout(stop, watchdog * 1000);
      };
      signal.addEventListener("abort", stop, { signal: cut.signal });
      heard();
      try {
        const url = new URL(this.url);
        if (once) url.searchParams.set("control", 1);
        const headers = { accept: "text/event-stream" };
        if (place) headers["last-event-id"] = place;
        if (token) headers.authorization = "Bearer " + (await token());
        const answer = await fetch(url, { headers, credentials, signal: cut.signal });
        status = answer.status;
        if (status == 200) {
          tries = 0;
          this.#say("open", 1);
          const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
          let frame = {};
          let text = "";
          for (let part; !(part = await reader.read()).done; ) {
            heard();
            const lines = (text + part.value).split("\n");
            text = lines.pop();
            for (const line of lines) {
              const [, name, value] = /([^:]*):? ?(.*)/s.exec(line);
              if (line) frame[name] = name == "data" && name in frame ? frame.data + "\n" + value : value;
              else {
                const { event = "message", data, id, retry } = frame;
                frame = {};
                this.#retry = +retry || this.#retry;
                if (data == null) continue;
                place = id || place;
                if (once && event == "hookbrook.live") return;
                tell?.({ event, data, id });
                this.#take({ event, data, id });
              }
            }
          }
        }
      } catch {
      } finally {
        clearTimeout(timer);
        stop();
      }
      if (signal.aborted) return;
      // 204: finished. What is refused for good is not asked for again; a token can be made anew.
      const isOver = status == 204 || (/^4/.test(status) && status != 429 && !(status == 401 && token));
      if (isOver) this.close();
      this.#say(status == 204 ? "closed" : "error", isOver ? 2 : 0, status);
      if (isOver) return;
      const wait = Math.min(this.#retry * 2 ** tries, 3e4);
      await new Promise((done) => setTimeout((this.#wake = done), wait * (1 + Math.random() / 2)));
    }
  }

  #say(name, readyState, status) {
    this.readyState = readyState;
    this.dispatchEvent(Object.assign(new Event(name), { status }));
  }

  #take({ event, data, id = "" }) {
    const isNew = seq(id) > seq(this.lastEventId);
    // What another tab told already; our own events are told once for each connection anyway.
    if (id && !isNew && !/^hookbrook\./.test(event)) return;
    if (isNew || event == "hookbrook.reset") this.lastEventId = id;
    this.dispatchEvent(new MessageEvent(event, { data, lastEventId: this.lastEventId }));
  }
}
