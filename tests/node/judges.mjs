// Providers' own JavaScript as judges of webhook signatures. Reads one JSON request a line, answers each with one line:
//   {"judge": "octokit", "do": "sign", "secret": …, "body": …, "time": …}     -> {"headers": {…}}
//   {"judge": "octokit", "do": "accepts", "secret": …, "body": …, "headers": …} -> {"accepted": true, "reply": …}

import { createInterface } from "node:readline";
import { sign as octokitSign, verify as octokitVerify } from "@octokit/webhooks-methods";
import { AwsLambdaReceiver } from "@zoom/rivet/users";
import { Webhook } from "standardwebhooks";
import Stripe from "stripe";

// Rivet logs every request to the standard output, which is the answers' here.
console.debug = () => {};

const octokit = {
  sign: async ({ secret, body }) => ({ "X-Hub-Signature-256": await octokitSign(secret, body) }),
  accepts: ({ secret, body, headers }) => octokitVerify(secret, body, headers["X-Hub-Signature-256"]),
};

const stripe = {
  sign: ({ secret, body, time }) => ({
    "Stripe-Signature": Stripe.webhooks.generateTestHeaderString({ payload: body, secret, timestamp: time }),
  }),
  accepts: ({ secret, body, headers }) => {
    Stripe.webhooks.constructEvent(body, headers["Stripe-Signature"], secret);
    return true;
  },
};

const standardwebhooks = {
  sign: ({ secret, body, time, id }) => ({
    "webhook-id": id,
    "webhook-timestamp": String(time),
    "webhook-signature": new Webhook(secret).sign(id, new Date(time * 1000), body),
  }),
  accepts: ({ secret, body, headers }) => {
    new Webhook(secret).verify(body, headers);
    return true;
  },
};

const rivet = {
  accepts: async ({ secret, body, headers }) => {
    const receiver = new AwsLambdaReceiver({ webhooksSecretToken: secret });
    receiver.init({ eventEmitter: { emit: async () => {} } });
    const response = await receiver.start()({ body, headers, isBase64Encoded: false }, {});
    return response.statusCode === 200 && (response.body || true);
  },
};

const judges = { octokit, stripe, standardwebhooks, rivet };

async function answer(request) {
  const judge = judges[request.judge];
  if (request.do === "sign") return { headers: await judge.sign(request) };
  try {
    const accepted = await judge.accepts(request);
    return { accepted: Boolean(accepted), reply: typeof accepted === "string" ? accepted : "" };
  } catch (error) {
    return { accepted: false, reply: String(error.message) };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await answer(JSON.parse(line)))}\n`);
}
