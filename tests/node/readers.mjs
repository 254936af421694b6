// Third-party readers of event streams: node readers.mjs LIBRARY URL COUNT
// Prints one JSON line for each event and ends after COUNT of them. Each library resumes by itself.

import { fetchEventSource } from "@microsoft/fetch-event-source";
import { EventSource as NpmEventSource } from "eventsource";
import { createEventSource } from "eventsource-client";
import { EventSource as UndiciEventSource } from "undici";

const [library, url, count] = process.argv.slice(2);

let seen = 0;
const take = ({ data, id, event }) => {
  // What the gateway says on its own account; EventSource hands that only to who asks for it by name.
  if (event?.startsWith("hookbrook.")) return;
  console.log(JSON.stringify({ data, id }));
  seen += 1;
  if (seen === Number(count)) {
    process.exit(0);
  }
};

const standard = (EventSource) => {
  const source = new EventSource(url);
  source.onmessage = ({ data, lastEventId }) => take({ data, id: lastEventId });
  source.onerror = () => {
    if (source.readyState === 2) {
      console.error(`${library} gave up`);
      process.exit(1);
    }
  };
};

const readers = {
  eventsource: () => standard(NpmEventSource),
  undici: () => standard(UndiciEventSource),
  "eventsource-client": () => createEventSource({ url, onMessage: take }),
  "fetch-event-source": () => {
    // It is written for browsers.
    globalThis.window = globalThis;
    globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };
    fetchEventSource(url, {
      openWhenHidden: true,
      onmessage: take,
      // Its readers are told to throw if an end is no end to them.
      onclose: () => {
        throw new Error("the stream ended");
      },
    });
  },
};

readers[library]();
// undici's timer for the next connection does not keep a process alive.
setInterval(() => {}, 60_000);
