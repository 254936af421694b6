// Providers' own JavaScript as judges of webhook signatures. Reads one JSON request a line, answers each with one line:
//   {"judge": "octokit", "do": "sign", "secret": …, "body": …, "time": …}     -> {"headers": {…}}
//   {"judge": "octokit", "do": "accepts", "secret": …, "body": …, "headers": …, "url": …} -> {"accepted": true, …}
// Each package is imported when it is first asked: some take a second to load.

import { createInterface } from "node:readline";

// Rivet logs every request to the standard output, which is the answers' here.
console.debug = () => {};

const octokit = {
  sign: async ({ secret, body }) => {
    const { sign } = await import("@octokit/webhooks-methods");
    return { "X-Hub-Signature-256": await sign(secret, body) };
  },
  accepts: async ({ secret, body, headers }) => {
    const { verify } = await import("@octokit/webhooks-methods");
    return verify(secret, body, headers["X-Hub-Signature-256"]);
  },
};

const stripe = {
  sign: async ({ secret, body, time }) => {
    const { default: Stripe } = await import("stripe");
    const options = { payload: body, secret, timestamp: time };
    return { "Stripe-Signature": Stripe.webhooks.generateTestHeaderString(options) };
  },
  accepts: async ({ secret, body, headers }) => {
    const { default: Stripe } = await import("stripe");
    Stripe.webhooks.constructEvent(body, headers["Stripe-Signature"], secret);
    return true;
  },
};

const standardwebhooks = {
  sign: async ({ secret, body, time, id }) => {
    const { Webhook } = await import("standardwebhooks");
    const signature = new Webhook(secret).sign(id, new Date(time * 1000), body);
    return { "webhook-id": id, "webhook-timestamp": String(time), "webhook-signature": signature };
  },
  accepts: async ({ secret, body, headers }) => {
    const { Webhook } = await import("standardwebhooks");
    new Webhook(secret).verify(body, headers);
    return true;
  },
};

const svix = {
  accepts: async ({ secret, body, headers }) => {
    const { Webhook } = await import("svix");
    new Webhook(secret).verify(body, headers);
    return true;
  },
};

const rivet = {
  accepts: async ({ secret, body, headers }) => {
    const { AwsLambdaReceiver } = await import("@zoom/rivet/users");
    const receiver = new AwsLambdaReceiver({ webhooksSecretToken: secret });
    receiver.init({ eventEmitter: { emit: async () => {} } });
    const response = await receiver.start()({ body, headers, isBase64Encoded: false }, {});
    return response.statusCode === 200 && (response.body || true);
  },
};

const discord = {
  accepts: async ({ secret, body, headers }) => {
    const { verifyKey } = await import("discord-interactions");
    return verifyKey(body, headers["X-Signature-Ed25519"], headers["X-Signature-Timestamp"], secret);
  },
};

const sendgrid = {
  accepts: async ({ secret, body, headers }) => {
    const { EventWebhook } = (await import("@sendgrid/eventwebhook")).default;
    const webhook = new EventWebhook();
    return webhook.verifySignature(
      webhook.convertPublicKeyToECDSA(secret),
      body,
      headers["X-Twilio-Email-Event-Webhook-Signature"],
      headers["X-Twilio-Email-Event-Webhook-Timestamp"],
    );
  },
};

const line = {
  accepts: async ({ secret, body, headers }) => {
    const { validateSignature } = await import("@line/bot-sdk");
    return validateSignature(body, secret, headers["x-line-signature"]);
  },
};

const sanity = {
  sign: async ({ secret, body, time }) => {
    const { encodeSignatureHeader, SIGNATURE_HEADER_NAME } = await import("@sanity/webhook");
    return { [SIGNATURE_HEADER_NAME]: await encodeSignatureHeader(body, time * 1000, secret) };
  },
  accepts: async ({ secret, body, headers }) => {
    const { isValidSignature, SIGNATURE_HEADER_NAME } = await import("@sanity/webhook");
    return isValidSignature(body, headers[SIGNATURE_HEADER_NAME], secret);
  },
};

const qstash = {
  accepts: async ({ secret, body, headers, url }) => {
    const { Receiver } = await import("@upstash/qstash");
    const receiver = new Receiver({ currentSigningKey: secret, nextSigningKey: secret });
    return receiver.verify({ signature: headers["Upstash-Signature"], body, url });
  },
};

const whatsapp = {
  accepts: async ({ secret, body, headers }) => {
    const { WhatsAppAPI } = await import("whatsapp-api-js");
    const api = new WhatsAppAPI({ token: "t", appSecret: secret, webhookVerifyToken: "v", v: "v21.0" });
    return api.verifyRequestSignature(body, headers["X-Hub-Signature-256"]);
  },
  // Its answer to the question by which Meta makes sure of an address; `body` is the address's query.
  answers: async ({ secret, body }) => {
    const { WhatsAppAPI } = await import("whatsapp-api-js");
    const api = new WhatsAppAPI({ token: "t", appSecret: "s", webhookVerifyToken: secret, v: "v21.0" });
    return api.get(Object.fromEntries(new URLSearchParams(body)));
  },
};

const linear = {
  accepts: async ({ secret, body, headers }) => {
    const { LinearWebhookClient } = await import("@linear/sdk/webhooks");
    return new LinearWebhookClient(secret).verify(Buffer.from(body), headers["Linear-Signature"]);
  },
};

const livekit = {
  sign: async ({ secret, body, time }) => {
    const { AccessToken } = await import("livekit-server-sdk");
    const token = new AccessToken("key", secret, { ttl: time + 300 - Math.floor(Date.now() / 1000) });
    const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(body));
    token.sha256 = Buffer.from(hash).toString("base64");
    return { Authorization: await token.toJwt() };
  },
  accepts: async ({ secret, body, headers }) => {
    const { WebhookReceiver } = await import("livekit-server-sdk");
    return Boolean(await new WebhookReceiver("key", secret).receive(body, headers.Authorization));
  },
};

const mux = {
  accepts: async ({ secret, body, headers }) => {
    const { default: Mux } = await import("@mux/mux-node");
    const client = new Mux({ tokenId: "id", tokenSecret: "secret", webhookSecret: secret });
    await client.webhooks.verifySignature(body, headers, secret);
    return true;
  },
};

const tern = (platform) => ({
  accepts: async ({ secret, body, headers, url }) => {
    const { WebhookVerificationService } = (await import("@hookflo/tern")).default;
    const request = new Request(url, { method: "POST", headers, body });
    return (await WebhookVerificationService.verify(request, { platform, secret })).isValid;
  },
});

const pusher = {
  accepts: async ({ secret, body, headers }) => {
    const { default: Pusher } = await import("pusher");
    const client = new Pusher({ appId: "1", key: "key", secret, cluster: "eu" });
    const lowered = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
    return client.webhook({ headers: lowered, rawBody: body }).isValid();
  },
};

const grammy = {
  accepts: async ({ secret, body, headers, url }) => {
    const { Bot, webhookCallback } = await import("grammy");
    const botInfo = { id: 1, is_bot: true, first_name: "bot", username: "bot" };
    const answer = webhookCallback(new Bot("1:token", { botInfo }), "std/http", { secretToken: secret });
    return (await answer(new Request(url, { method: "POST", headers, body }))).status === 200;
  },
};

const replicate = {
  accepts: async ({ secret, body, headers }) => {
    const { validateWebhook } = (await import("replicate")).default;
    const [id, timestamp, signature] = ["id", "timestamp", "signature"].map((name) => headers[`webhook-${name}`]);
    return validateWebhook({ id, timestamp, signature, body, secret });
  },
};

const mandrill = {
  sign: async ({ secret, body, url }) => {
    const { default: validator } = await import("mandrill-webhook-validator");
    const signature = validator.makeSignature(secret, url, Object.fromEntries(new URLSearchParams(body)));
    return { "X-Mandrill-Signature": signature, "Content-Type": "application/x-www-form-urlencoded" };
  },
  accepts: async ({ secret, body, headers, url }) => {
    const { default: validator } = await import("mandrill-webhook-validator");
    const fields = Object.fromEntries(new URLSearchParams(body));
    const request = { get: () => headers["X-Mandrill-Signature"], body: fields };
    const failed = await new Promise((next) => {
      validator.createExpressMiddleware({ key: secret, url })(request, {}, next);
    });
    return !failed;
  },
};

const workos = {
  accepts: async ({ secret, body, headers }) => {
    const { WorkOS } = await import("@workos-inc/node");
    const webhooks = new WorkOS("sk_test", { clientId: "client" }).webhooks;
    return webhooks.verifyHeader({ payload: JSON.parse(body), sigHeader: headers["WorkOS-Signature"], secret });
  },
};

// Fetches the certificate that a message names; here that is one server on this machine, which the secret describes.
const certificateAddress = new Map();
async function serveCertificate({ cert, key }) {
  if (!certificateAddress.has(cert)) {
    const https = await import("node:https");
    const server = https.createServer({ cert, key }, (_, response) => response.end(cert)).listen(0, "localhost");
    await new Promise((ready) => server.once("listening", ready));
    server.unref();
    https.globalAgent.options.ca = cert;
    certificateAddress.set(cert, `https://localhost:${server.address().port}/sns.pem`);
  }
  return certificateAddress.get(cert);
}

const sns = {
  accepts: async ({ secret, body }) => {
    const { default: Validator } = await import("sns-validator");
    const message = { ...JSON.parse(body), SigningCertURL: await serveCertificate(JSON.parse(secret)) };
    const error = await new Promise((done) => new Validator(/^localhost:\d+$/).validate(message, done));
    return !error;
  },
};

const judges = {
  octokit,
  stripe,
  standardwebhooks,
  svix,
  rivet,
  discord,
  sendgrid,
  line,
  sanity,
  qstash,
  whatsapp,
  linear,
  livekit,
  mux,
  pusher,
  grammy,
  replicate,
  mandrill,
  workos,
  sns,
  shopify: tern("shopify"),
  lemonsqueezy: tern("lemonsqueezy"),
  woocommerce: tern("woocommerce"),
  doppler: tern("doppler"),
  sentry: tern("sentry"),
  paddle: tern("paddle"),
  polar: tern("polar"),
};

async function answer(request) {
  const judge = judges[request.judge];
  if (request.do === "sign") return { headers: await judge.sign(request) };
  if (request.do === "answers") return { reply: await judge.answers(request) };
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
