// The AI SDK over its provider for compatible servers: a tool that it runs itself, whole and streamed. Prints one JSON object.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";

const [baseURL, apiKey, schema] = process.argv.slice(2);
const provider = createOpenAICompatible({ name: "qian", baseURL, apiKey, includeUsage: true });
const ran = [];
const settings = {
  model: provider("scripted"), temperature: 0, maxRetries: 0, prompt: "What is 20 and 22?", stopWhen: stepCountIs(2),
  tools: { add: tool({ description: "Adds", inputSchema: jsonSchema(JSON.parse(schema)), execute: async (input) => { ran.push(input); return "42"; } }) },
};
const out = {};

const whole = await generateText(settings);
out.whole = { steps: whole.steps.length, text: whole.steps[0].text.trim(), reasoning: whole.steps[0].reasoningText.trim(), finish: whole.steps[0].finishReason, output: whole.steps[0].usage.outputTokens };
const stream = streamText(settings);
const kinds = new Set();
let text = "";
for await (const part of stream.fullStream) {
  kinds.add(part.type);
  if (part.type === "error") throw part.error;
  if (part.type === "text-delta") text += part.text;
}
const steps = await stream.steps;
out.stream = { steps: steps.length, text: steps[0].text.trim(), both: text.trim().length > steps[0].text.trim().length, reasoning: steps[0].reasoningText.trim(), output: steps[0].usage.outputTokens, kinds: ["reasoning-delta", "text-delta", "tool-call", "tool-result"].every((kind) => kinds.has(kind)) };
out.ran = ran;
console.log(JSON.stringify(out));
