// OpenAI's client: chat and responses, whole and streamed, with a tool whose result goes back. Prints one JSON object.
import OpenAI from "openai";

const [baseURL, apiKey, schema] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const model = "scripted";
const question = { role: "user", content: "What is 20 and 22?" };
const tools = [{ type: "function", function: { name: "add", description: "Adds", parameters: JSON.parse(schema) } }];
const flatTools = [{ type: "function", name: "add", description: "Adds", parameters: JSON.parse(schema), strict: false }];
const out = {};

const whole = await client.chat.completions.create({ model, messages: [question], tools, temperature: 0 });
const call = whole.choices[0].message.tool_calls[0];
out.chat = { finish: whole.choices[0].finish_reason, text: whole.choices[0].message.content.trim(), name: call.function.name, arguments: call.function.arguments };
const next = await client.chat.completions.create({ model, messages: [question, whole.choices[0].message, { role: "tool", tool_call_id: call.id, content: "42" }], tools, temperature: 0 });
out.grew = next.usage.prompt_tokens > whole.usage.prompt_tokens;

const stream = client.chat.completions.stream({ model, messages: [question], tools, temperature: 0, stream_options: { include_usage: true } });
const final = await stream.finalChatCompletion();
out.stream = { finish: final.choices[0].finish_reason, text: final.choices[0].message.content.trim(), arguments: final.choices[0].message.tool_calls[0].function.arguments, output: (await stream.totalUsage()).completion_tokens };

const runner = client.chat.completions.runTools({
  model, temperature: 0, messages: [question],
  tools: [{ type: "function", function: { name: "add", description: "Adds", parameters: JSON.parse(schema), parse: JSON.parse, function: (given) => { out.ran = given; return "42"; } } }],
}, { maxChatCompletions: 2 });
await runner.done().catch(() => {});

const response = await client.responses.create({ model, input: "What is 20 and 22?", tools: flatTools, temperature: 0 });
out.response = { status: response.status, types: response.output.map((item) => item.type), text: response.output_text.trim(), arguments: response.output[2].arguments };
const events = client.responses.stream({ model, input: "Hi", temperature: 0, reasoning: { effort: "none" }, previous_response_id: response.id });
const deltas = [];
events.on("response.output_text.delta", (event) => deltas.push(event.delta));
out.responseStream = { final: (await events.finalResponse()).output.at(-1).content[0].text, deltas: deltas.join("") };

try {
  await client.chat.completions.create({ model, messages: [question], temperature: 9 });
} catch (error) {
  out.error = { status: error.status, type: error.constructor.name, param: error.param };
}

console.log(JSON.stringify(out));
