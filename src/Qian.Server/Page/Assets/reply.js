// One reply while it is written: reads the stream into its node, keeps the clock, and tells its watcher when something changed.
// Knows nothing of the page. What it measures: the wait for the first token, tokens per second after it, how much was cached.

import { streamReply } from './api.js';

export class Reply {
    constructor(conversation, node, onchange) {
        this.conversation = conversation;
        this.node = node;
        this.onchange = onchange;
        this.phase = 'waiting';     // then 'thinking', 'writing', 'calling', at last 'over'
        this.wait = '';
        this.pieceCount = 0;        // a piece is a token, near enough while it runs; usage corrects it at the end
        this.startedAt = performance.now();
        this.firstAt = null;
        this.lastAt = null;
        this.thoughtFrom = null;
        this.abort = new AbortController();
    }

    // Never throws: what goes wrong is written on the node.
    async run(body) {
        const node = this.node;
        try {
            await streamReply(body, this.abort.signal, {
                onwait: text => this.#waiting(text),
                ondelta: delta => this.#delta(delta),
                onend: reason => node.end = reason,
                onusage: usage => this.#usage(usage),
            });
            node.end ??= 'stop';
        } catch (error) {
            if (error.name === 'AbortError')
                node.end = 'stopped';
            else {
                node.end = 'failed';
                node.fault = { status: error.status ?? 0, message: error.message, retryAfter: error.retryAfter ?? null };
            }
        }
        this.#endThought();
        node.figures ??= this.firstAt === null ? undefined : { outputCount: this.pieceCount, isEstimate: true };
        if (node.figures) {
            node.figures.waitMs = Math.round(this.firstAt - this.startedAt);
            node.figures.speed = this.speed(node.figures.outputCount);
        }
        this.phase = 'over';
        this.onchange(this);
    }

    stop() {
        this.abort.abort();
    }

    // Tokens per second after the first one; null while there is too little to say.
    speed(count = this.pieceCount) {
        const span = this.lastAt - this.firstAt;
        return this.firstAt === null || count < 3 || span < 20 ? null : (count - 1) / span * 1000;
    }

    #waiting(text) {
        this.wait = text;
        this.onchange(this);
    }

    #delta(delta) {
        const node = this.node;
        this.lastAt = performance.now();
        this.firstAt ??= this.lastAt;
        this.pieceCount++;
        if (delta.thought) {
            this.phase = 'thinking';
            this.thoughtFrom ??= this.lastAt;
            node.thought = (node.thought ?? '') + delta.thought;
        }
        if (delta.text) {
            this.#endThought();
            this.phase = 'writing';
            node.text += delta.text;
        }
        for (const call of delta.calls) {
            this.#endThought();
            this.phase = 'calling';
            node.calls ??= [];
            while (node.calls.length <= call.index && node.calls.length < 256)
                node.calls.push({ id: '', name: '', arguments: '' });
            const known = node.calls[call.index];
            if (!known)
                continue;
            known.id = call.id ?? known.id;
            known.name = call.function?.name ?? known.name;
            known.arguments += call.function?.arguments ?? '';
        }
        this.onchange(this);
    }

    #endThought() {
        if (this.thoughtFrom !== null)
            this.node.thoughtMs = Math.round(this.lastAt - this.thoughtFrom) + (this.node.thoughtMs ?? 0);
        this.thoughtFrom = null;
    }

    #usage(usage) {
        this.node.figures = {
            promptCount: usage.prompt_tokens ?? null,
            cachedCount: usage.prompt_tokens_details?.cached_tokens ?? null,
            outputCount: usage.completion_tokens ?? this.pieceCount,
            thoughtCount: usage.completion_tokens_details?.reasoning_tokens ?? null,
        };
        this.firstAt ??= performance.now();
        this.lastAt ??= this.firstAt;
    }
}

// "waiting for a place", "reading the prompt, 45 %": the server's comments in words.
export function waitInWords(text) {
    const read = /^prefill (\d+)\/(\d+)/.exec(text);
    if (read)
        return `Reading the prompt · ${Math.floor(100 * Number(read[1]) / Math.max(1, Number(read[2])))} %`;
    return text === 'queued' ? 'Waiting for a place' : 'Reading the prompt';
}

const whole = new Intl.NumberFormat('en');

export const countText = count => whole.format(count);

export const speedText = speed => (speed >= 100 ? Math.round(speed) : speed.toFixed(1)) + ' tokens/s';

export function timeText(ms) {
    if (ms < 950)
        return `${Math.max(0.01, ms / 1000).toFixed(2)} s`;
    const seconds = ms / 1000;
    return seconds < 9.95 ? `${seconds.toFixed(1)} s` : seconds < 60 ? `${Math.round(seconds)} s` : `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}

// The line under a reply, as short texts.
export function figureTexts(figures) {
    const texts = [];
    if (figures.outputCount)
        texts.push(`${figures.isEstimate ? 'about ' : ''}${countText(figures.outputCount)} ${figures.outputCount === 1 ? 'token' : 'tokens'}`);
    if (figures.speed)
        texts.push(speedText(figures.speed));
    if (figures.waitMs !== undefined)
        texts.push(`first after ${timeText(figures.waitMs)}`);
    if (figures.promptCount) {
        const share = figures.cachedCount === null ? '' : `, ${Math.floor(100 * figures.cachedCount / figures.promptCount)} % cached`;
        texts.push(`prompt ${countText(figures.promptCount)}${share}`);
    }
    return texts;
}
