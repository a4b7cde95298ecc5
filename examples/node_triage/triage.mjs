// Sorts support tickets, and then streams a summary of them.
//
//     node triage.mjs tickets.json
//
// The client reads OPENAI_BASE_URL and OPENAI_API_KEY.

import { readFile } from "node:fs/promises";
import OpenAI from "openai";

const model = "gpt-4.1-mini";
const client = new OpenAI();

const schema = {
  type: "object",
  properties: {
    team: { enum: ["billing", "engineering", "support"] },
    urgent: { type: "boolean" },
  },
  required: ["team", "urgent"],
  additionalProperties: false,
};

async function sort(ticket) {
  const completion = await client.chat.completions.create({
    model,
    temperature: 0,
    messages: [
      { role: "system", content: "Sort the ticket: which team answers it, and is it urgent?" },
      { role: "user", content: ticket },
    ],
    response_format: { type: "json_schema", json_schema: { name: "sorted", strict: true, schema } },
  });
  const [{ message, finish_reason }] = completion.choices;
  if (finish_reason !== "stop") throw new Error(`the answer ended with ${finish_reason}`);
  return { ticket, ...JSON.parse(message.content) };
}

async function summarize(sorted, write) {
  const lines = sorted.map(({ ticket, team }) => `- ${team}: ${ticket}`);
  const stream = await client.chat.completions.create({
    model,
    temperature: 0,
    stream: true,
    messages: [{ role: "user", content: `Summarize these tickets:\n${lines.join("\n")}` }],
  });
  for await (const chunk of stream) write(chunk.choices[0]?.delta.content ?? "");
}

const tickets = JSON.parse(await readFile(process.argv[2], "utf8"));
const sorted = await Promise.all(tickets.map(sort)); // all at once
for (const { ticket, team, urgent } of sorted) {
  console.log(`${team}${urgent ? " (urgent)" : ""}: ${ticket}`);
}
await summarize(sorted, (text) => process.stdout.write(text));
console.log();
