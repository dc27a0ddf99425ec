// Anthropic's client: messages with thinking and a tool, whole and streamed, counting, an error. Prints one JSON object.
import Anthropic from "@anthropic-ai/sdk";

const [baseURL, apiKey, schema] = process.argv.slice(2);
const client = new Anthropic({ baseURL, apiKey, maxRetries: 0 });
const request = {
  model: "scripted", max_tokens: 200, thinking: { type: "enabled", budget_tokens: 100 },
  tools: [{ name: "add", description: "Adds", input_schema: JSON.parse(schema) }],
  messages: [{ role: "user", content: "What is 20 and 22?" }],
};
const shape = (message) => ({ types: message.content.map((block) => block.type), thinking: message.content[0].thinking.trim(), text: message.content[1].text.trim(), input: message.content[2].input, stop: message.stop_reason, output: message.usage.output_tokens });
const out = {};

const whole = await client.messages.create(request);
out.whole = shape(whole);
out.stream = shape(await client.messages.stream(request).finalMessage());
const next = await client.messages.create({
  ...request,
  messages: [...request.messages, { role: "assistant", content: whole.content }, { role: "user", content: [{ type: "tool_result", tool_use_id: whole.content[2].id, content: "42" }] }],
});
out.grew = next.usage.input_tokens > whole.usage.input_tokens;
out.counted = (await client.messages.countTokens({ model: "scripted", messages: request.messages, tools: request.tools, thinking: request.thinking })).input_tokens === whole.usage.input_tokens;
try {
  await client.messages.create({ ...request, max_tokens: 0 });
} catch (error) {
  out.error = { status: error.status, type: error.error.error.type };
}

console.log(JSON.stringify(out));
