// What stands inside a paragraph, to plain objects: { type: 'text' | 'code' | 'math' | 'break', text } and
// { type: 'strong' | 'em' | 'del' | 'link', children, href, depth }. Emphasis by the delimiter stack of CommonMark, in linear
// time; an image is a link to it, since nothing is fetched from elsewhere. Addresses of other schemes than the listed stay text.

const deepest = 12;
const longestAddress = 2000;
const deepestParentheses = 16;
const addressPart = /[^\s()]*/y;
const escapable = /[!-/:-@[-`{-~]/;
const space = /\s/;
const punctuation = /[\p{P}\p{S}]/u;

// The address to link to, or null. Control characters and spaces would let a browser see another scheme than we do.
export function safeAddress(text) {
    if (text.length > longestAddress || /[\u0000-\u0020\u007f-\u00a0\u2028\u2029]/.test(text))
        return null;
    return /^(https?:\/\/[^/]|mailto:[^/])/i.test(text) && URL.canParse(text) ? text : null;
}

export function parseInline(text) {
    return new Inline(text).run();
}

class Inline {
    constructor(text) {
        this.text = text;
        this.at = 0;
        this.out = [];          // nodes and, until they are paired, delimiter runs
        this.brackets = [];     // places in out where a [ stands
        this.missing = new Set();   // closers that do not occur any more
        this.plain = '';
    }

    run() {
        const text = this.text;
        while (this.at < text.length) {
            const mark = text[this.at];
            const isRead = mark === '\\' ? this.escape()
                : mark === '`' ? this.code()
                : mark === '*' || mark === '_' || mark === '~' ? this.delimiters()
                : mark === '[' || mark === '!' && text[this.at + 1] === '[' ? this.openBracket()
                : mark === ']' ? this.closeBracket()
                : mark === '<' ? this.angle()
                : mark === '\n' ? this.newLine()
                : (mark === 'h' || mark === 'H') && this.bareAddress();
            if (!isRead) {
                this.plain += mark;
                this.at++;
            }
        }
        this.flush();
        return settle(pair(this.out));
    }

    flush() {
        if (this.plain.length > 0)
            this.out.push({ type: 'text', text: this.plain });
        this.plain = '';
    }

    push(node) {
        this.flush();
        this.out.push(node);
        return true;
    }

    escape() {
        const next = this.text[this.at + 1];
        if (next === '(') {
            const end = this.find('\\)', this.at + 2);
            if (end > 0) {
                const math = this.text.slice(this.at + 2, end).trim();
                this.at = end + 2;
                return this.push({ type: 'math', text: math });
            }
        }
        if (next === '\n') {
            this.at += 2;
            return this.push({ type: 'break' });
        }
        if (next === undefined || !escapable.test(next))
            return false;
        this.plain += next;
        this.at += 2;
        return true;
    }

    code() {
        const ticks = this.runLength('`');
        const mark = '`'.repeat(ticks);
        let end = this.at + ticks;
        if (!this.missing.has(mark)) {
            while ((end = this.text.indexOf(mark, end)) > 0) {
                const length = runAt(this.text, end, '`');
                if (length === ticks) {
                    let code = this.text.slice(this.at + ticks, end).replace(/\n/g, ' ');
                    if (code.length > 2 && code.startsWith(' ') && code.endsWith(' ') && code.trim().length > 0)
                        code = code.slice(1, -1);
                    this.at = end + ticks;
                    return this.push({ type: 'code', text: code });
                }
                end += length;
            }
            this.missing.add(mark);
        }
        this.plain += mark;
        this.at += ticks;
        return true;
    }

    delimiters() {
        const mark = this.text[this.at];
        const count = this.runLength(mark);
        const before = this.at > 0 ? this.text[this.at - 1] : ' ';
        const after = this.text[this.at + count] ?? ' ';
        this.at += count;
        const afterSpace = space.test(after), beforeSpace = space.test(before);
        const afterPunctuation = punctuation.test(after), beforePunctuation = punctuation.test(before);
        const leftFlanking = !afterSpace && (!afterPunctuation || beforeSpace || beforePunctuation);
        const rightFlanking = !beforeSpace && (!beforePunctuation || afterSpace || afterPunctuation);
        const isWordBound = mark === '_';
        const run = {
            type: 'run', mark, count,
            canOpen: leftFlanking && (!isWordBound || !rightFlanking || beforePunctuation),
            canClose: rightFlanking && (!isWordBound || !leftFlanking || afterPunctuation),
        };
        if (mark === '~' && count !== 2)
            return this.push({ type: 'text', text: mark.repeat(count) });
        // Text in Chinese and Japanese has no spaces: **「…」**的 is emphasis, whatever stands beside it.
        if (mark === '*' && !leftFlanking && !rightFlanking)
            return this.push({ type: 'text', text: mark.repeat(count) });
        if (mark === '*' && !run.canClose && !beforeSpace && beforePunctuation && isWide(after))
            run.canClose = true;
        return this.push(run);
    }

    openBracket() {
        const isImage = this.text[this.at] === '!';
        this.flush();
        this.brackets.push(this.out.length);
        this.at += isImage ? 2 : 1;
        return this.push({ type: 'text', text: isImage ? '![' : '[' });
    }

    closeBracket() {
        const place = this.brackets.pop();
        if (place === undefined || this.text[this.at + 1] !== '(')
            return false;
        const target = readTarget(this.text, this.at + 2);
        const href = target && safeAddress(target.address);
        if (!href)
            return false;
        this.flush();
        const isImage = this.out[place].text === '![';
        const children = settle(pair(this.out.splice(place).slice(1)));
        // A link holds no link: what was one inside becomes its text.
        const inner = children.flatMap(child => child.type === 'link' ? child.children : [child]);
        this.at = target.end;
        this.push(wrap('link', inner.length > 0 ? inner : [{ type: 'text', text: isImage ? 'image' : href }], { href }));
        this.brackets.length = 0;
        return true;
    }

    angle() {
        const match = /^<br ?\/?>/i.exec(this.text.slice(this.at, this.at + 6));
        if (match) {
            this.at += match[0].length;
            return this.push({ type: 'break' });
        }
        const end = this.find('>', this.at + 1);
        const href = end > 0 && end - this.at <= longestAddress ? safeAddress(this.text.slice(this.at + 1, end)) : null;
        if (!href)
            return false;
        this.at = end + 1;
        return this.push(wrap('link', [{ type: 'text', text: href }], { href }));
    }

    bareAddress() {
        if (this.at > 0 && /[\w@/:]/.test(this.text[this.at - 1]))
            return false;
        const match = /^https?:\/\/[^\s<>"'`{}|\\^\u3000-\u303f\uff00-\uffef]+/i.exec(this.text.slice(this.at, this.at + longestAddress));
        if (!match)
            return false;
        let address = match[0].replace(/[.,;:!?*_~\]]+$/, '');
        while (address.endsWith(')') && count(address, ')') > count(address, '('))
            address = address.slice(0, -1).replace(/[.,;:!?*_~\]]+$/, '');
        const href = safeAddress(address);
        if (!href)
            return false;
        this.at += address.length;
        return this.push(wrap('link', [{ type: 'text', text: address }], { href }));
    }

    newLine() {
        const isHard = this.plain.endsWith('  ');
        this.plain = this.plain.trimEnd();
        this.at++;
        if (isHard)
            return this.push({ type: 'break' });
        this.plain += '\n';
        return true;
    }

    // Where a closer stands next, or -1; what was looked for in vain is not looked for again.
    find(closer, from) {
        if (this.missing.has(closer))
            return -1;
        const end = this.text.indexOf(closer, from);
        if (end < 0)
            this.missing.add(closer);
        return end;
    }

    runLength(mark) {
        return runAt(this.text, this.at, mark);
    }
}

// "(address "title")" from behind the parenthesis.
function readTarget(text, start) {
    let at = start, depth = 0;
    const limit = Math.min(text.length, start + longestAddress);
    if (text[at] === '<') {
        const end = text.indexOf('>', at);
        if (end < 0 || end >= limit || text[end + 1] !== ')')
            return null;
        return { address: text.slice(at + 1, end), end: end + 2 };
    }
    while (at < limit) {
        addressPart.lastIndex = at;
        at += addressPart.exec(text)[0].length;
        if (at >= limit || text[at] !== '(' && text[at] !== ')')
            break;
        depth += text[at] === '(' ? 1 : -1;
        if (depth < 0)
            return { address: text.slice(start, at), end: at + 1 };
        if (depth > deepestParentheses)
            return null;
        at++;
    }
    const title = /^\s+(?:"[^"\n]{0,300}"|'[^'\n]{0,300}')\s{0,9}\)/.exec(text.slice(at, at + 330));
    return title ? { address: text.slice(start, at), end: at + title[0].length } : null;
}

// Pairs delimiter runs. For each kind of closer the stack below a place is known to hold no opener, which keeps this linear; each
// opener knows how deep the nodes behind it nest, and pairs that would nest too deep stay text.
function pair(nodes) {
    const out = [], openers = [];
    const floor = {};
    const push = node => {
        out.push(node);
        if (openers.length > 0)
            openers.at(-1).inner = Math.max(openers.at(-1).inner, node.depth ?? 0);
    };
    for (const node of nodes) {
        if (node.type !== 'run') {
            push(node);
            continue;
        }
        let rest = node.count;
        while (rest > 0 && node.canClose) {
            const key = node.mark + node.canOpen + node.count % 3;
            let k = openers.length - 1;
            while (k >= (floor[key] ?? 0) && !matches(openers[k], node))
                k--;
            if (k < (floor[key] ?? 0)) {
                floor[key] = openers.length;
                break;
            }
            const opener = openers[k];
            const inner = openers.slice(k).reduce((most, other) => Math.max(most, other.inner), 0);
            const used = node.mark === '~' || rest >= 2 && opener.rest >= 2 ? 2 : 1;
            openers.length = k;
            for (const kind of Object.keys(floor))
                floor[kind] = Math.min(floor[kind], k);
            rest -= used;
            if (inner >= deepest) {
                push({ type: 'text', text: node.mark.repeat(used), depth: inner });
                continue;
            }
            const children = settle(out.splice(opener.place + 1));
            opener.rest -= used;
            out[opener.place].text = opener.mark.repeat(opener.rest);
            if (opener.rest > 0)
                openers.push(opener);
            push(wrap(node.mark === '~' ? 'del' : used === 2 ? 'strong' : 'em', children));
        }
        if (rest > 0) {
            push({ type: 'text', text: node.mark.repeat(rest) });
            if (node.canOpen)
                openers.push({ mark: node.mark, rest, count: node.count, canClose: node.canClose, place: out.length - 1, inner: 0 });
        }
    }
    return out;
}

function matches(opener, closer) {
    if (opener.mark !== closer.mark)
        return false;
    return !((opener.canClose || closer.canOpen) && (opener.count + closer.count) % 3 === 0 && (opener.count % 3 !== 0 || closer.count % 3 !== 0));
}

function wrap(type, children, more) {
    return { type, children, depth: 1 + children.reduce((most, child) => Math.max(most, child.depth ?? 0), 0), ...more };
}

// Neighbouring texts become one.
function settle(nodes) {
    const out = [];
    for (const node of nodes) {
        if (node.type === 'text' && out.at(-1)?.type === 'text')
            out[out.length - 1] = { type: 'text', text: out.at(-1).text + node.text };
        else if (node.type !== 'text' || node.text.length > 0)
            out.push(node);
    }
    return out;
}

function runAt(text, at, mark) {
    let end = at;
    while (text[end] === mark)
        end++;
    return end - at;
}

const isWide = letter => /[\u2e80-\u9fff\uac00-\ud7af\uff00-\uffef]/.test(letter);

const count = (text, letter) => text.split(letter).length - 1;
