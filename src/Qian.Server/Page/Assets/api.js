// The server's API as this page uses it: what models there are, and one streamed reply. A key, where one is needed,
// lives in the tab's own storage and goes nowhere but to this server.

const keyName = 'qian.key';
const longestLine = 8_000_000;

export class ApiFault extends Error {
    constructor(status, message, retryAfter) {
        super(message);
        this.status = status;
        this.retryAfter = retryAfter;
    }
}

export function getKey() {
    try {
        return sessionStorage.getItem(keyName) ?? '';
    } catch {
        return '';
    }
}

export function setKey(key) {
    try {
        sessionStorage.setItem(keyName, key);
    } catch {
        throw new Error('This browser keeps nothing for this page, not even for the tab.');
    }
}

async function send(path, options) {
    const headers = { ...options?.headers };
    const key = getKey();
    if (key)
        headers.Authorization = 'Bearer ' + key;
    let response;
    try {
        response = await fetch(path, { ...options, headers, cache: 'no-store', credentials: 'omit', redirect: 'error' });
    } catch (error) {
        if (error.name === 'AbortError')
            throw error;
        throw new ApiFault(0, 'The server cannot be reached.');
    }
    if (response.ok)
        return response;
    let message = `The server answered with status ${response.status}.`;
    try {
        message = (await response.json()).error.message || message;
    } catch {
        // No body of the API's shape; the status says it.
    }
    throw new ApiFault(response.status, message, Number(response.headers.get('Retry-After')) || null);
}

// [{ id, isAdapter, contextLength }]: an adapter is listed, and asked for, by its name like a model.
export async function models() {
    const body = await (await send('/v1/models')).json();
    return body.data.map(model => ({ id: String(model.id), isAdapter: typeof model.parent === 'string', contextLength: model.max_model_len ?? null }));
}

// Streams one reply. Events: onwait(text) while the prompt waits or is read, ondelta({ thought, text, calls }) for each piece,
// onend(reason), onusage(usage). Returns when the stream is over; aborting the signal stops the server's work too.
export async function streamReply(body, signal, events) {
    const response = await send('/v1/chat/completions', {
        method: 'POST', signal, headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
    });
    for await (const line of lines(response.body)) {
        if (line.startsWith(': '))
            events.onwait(line.slice(2));
        if (!line.startsWith('data: '))
            continue;
        const data = line.slice(6);
        if (data === '[DONE]')
            return;
        const chunk = JSON.parse(data);
        if (chunk.error)
            throw new ApiFault(500, chunk.error.message);
        const choice = chunk.choices?.[0];
        const delta = choice?.delta;
        if (delta && (delta.content || delta.reasoning_content || delta.tool_calls))
            events.ondelta({ thought: delta.reasoning_content ?? '', text: delta.content ?? '', calls: delta.tool_calls ?? [] });
        if (choice?.finish_reason)
            events.onend(['context', 'repetition'].includes(choice.finish_detail) ? choice.finish_detail : choice.finish_reason);
        if (chunk.usage)
            events.onusage(chunk.usage);
    }
    throw new ApiFault(0, 'The connection was lost before the reply was whole.');
}

async function* lines(stream) {
    const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
    let rest = '';
    try {
        while (true) {
            const { value, done } = await reader.read();
            if (done)
                break;
            const parts = (rest + value).split('\n');
            rest = parts.pop();
            if (rest.length > longestLine)
                throw new ApiFault(0, 'The server sent a line without end.');
            yield* parts;
        }
    } catch (error) {
        if (error instanceof ApiFault || error.name === 'AbortError')
            throw error;
        throw new ApiFault(0, 'The connection was lost before the reply was whole.');
    } finally {
        reader.cancel().catch(() => { });
    }
}
