// Markdown as models write it, to plain objects. Blocks first, line by line; what is inside a paragraph is read when it is shown
// (inline.js). Linear in the text; markup that nests deeper than the limit stays text. HTML is text.
//
// Block: { type, source, … } where source is the block's own lines, so that a stream re-renders only what changed:
//   paragraph { text } · heading { level, text } · code { language, text, isOpen } · math { text } · rule
//   quote { text } · list { isOrdered, start, isTight, items: [{ text, checked }] } · table { align, head, rows }

const fence = /^ {0,3}(`{3,}|~{3,})[ \t]*([^`\n]*)$/;
const heading = /^ {0,3}(#{1,6})(?:[ \t]+(.*))?$/;
const rule = /^ {0,3}(?:\*[ \t]*){3,}$|^ {0,3}(?:-[ \t]*){3,}$|^ {0,3}(?:_[ \t]*){3,}$/;
const item = /^( {0,3})([-*+]|\d{1,9}[.)])(?:( +)(.*))?$/;
const blank = /^[ \t]*$/;

export function parseBlocks(text) {
    const lines = text.replace(/\r\n?/g, '\n').replace(/\t/g, '    ').split('\n');
    const blocks = [];
    let index = 0;
    while (index < lines.length) {
        if (blank.test(lines[index])) {
            index++;
            continue;
        }
        const start = index;
        const read = readFence(lines, index) || readMath(lines, index) || readHeading(lines, index) || readRule(lines, index)
            || readQuote(lines, index) || readList(lines, index) || readTable(lines, index) || readParagraph(lines, index);
        index = read.end;
        read.block.source = lines.slice(start, index).join('\n');
        blocks.push(read.block);
    }
    return blocks;
}

function readFence(lines, index) {
    const open = fence.exec(lines[index]);
    if (!open)
        return null;
    const mark = open[1];
    const indent = lines[index].length - lines[index].trimStart().length;
    const body = [];
    let end = index + 1;
    for (; end < lines.length; end++) {
        const close = lines[end].trim();
        if (close.length >= mark.length && close[0] === mark[0] && isAll(close, mark[0]))
            return { block: { type: 'code', language: languageOf(open[2]), text: body.join('\n'), isOpen: false }, end: end + 1 };
        body.push(dedent(lines[end], indent));
    }
    return { block: { type: 'code', language: languageOf(open[2]), text: body.join('\n'), isOpen: true }, end };
}

const languageOf = info => (/^[\w+#.-]{1,30}/.exec(info.trim()) || [''])[0].toLowerCase();

// $$ … $$ and \[ … \]: shown as written, and kept from being read as emphasis.
function readMath(lines, index) {
    const first = lines[index].trim();
    const closer = first.startsWith('$$') ? '$$' : first.startsWith('\\[') ? '\\]' : null;
    if (closer === null)
        return null;
    const body = [];
    for (let end = index; end < lines.length && end < index + 100; end++) {
        const line = end === index ? first.slice(2) : lines[end].trim();
        if (end > index && blank.test(line))
            return null;
        if (line.endsWith(closer)) {
            body.push(line.slice(0, -2));
            return { block: { type: 'math', text: body.join('\n').trim() }, end: end + 1 };
        }
        body.push(line);
    }
    return null;
}

function readHeading(lines, index) {
    const match = heading.exec(lines[index]);
    return match && { block: { type: 'heading', level: match[1].length, text: withoutClosing((match[2] || '').trim()) }, end: index + 1 };
}

// "# Title ##" is a spelling of "# Title".
function withoutClosing(text) {
    let end = text.length;
    while (end > 0 && text[end - 1] === '#')
        end--;
    return end === 0 ? '' : end < text.length && text[end - 1] === ' ' ? text.slice(0, end).trimEnd() : text;
}

function readRule(lines, index) {
    return rule.test(lines[index]) ? { block: { type: 'rule' }, end: index + 1 } : null;
}

function readQuote(lines, index) {
    if (!/^ {0,3}>/.test(lines[index]))
        return null;
    const body = [];
    let end = index;
    for (; end < lines.length; end++) {
        const match = /^ {0,3}> ?(.*)$/.exec(lines[end]);
        if (match)
            body.push(match[1]);
        else if (blank.test(lines[end]) || startsBlock(lines, end))
            break;
        else
            body.push(lines[end]);
    }
    return { block: { type: 'quote', text: body.join('\n') }, end };
}

function readList(lines, index) {
    const first = item.exec(lines[index]);
    if (!first || rule.test(lines[index]))
        return null;
    const isOrdered = /\d/.test(first[2]);
    const kind = first[2].at(-1);
    const items = [];
    let end = index, isTight = true, hadBlank = false, body = null, depth = 0, indent = 0;
    for (; end < lines.length; end++) {
        const line = lines[end];
        if (blank.test(line)) {
            hadBlank = true;
            body?.push('');
            continue;
        }
        const match = item.exec(line);
        const starts = match && match[2].at(-1) === kind && /\d/.test(match[2]) === isOrdered && (body === null || match[1].length < indent + 2) && !rule.test(line);
        if (starts) {
            if (hadBlank && body !== null)
                isTight = false;
            indent = match[1].length;
            depth = indent + match[2].length + Math.min((match[3] || ' ').length, 4);
            body = [match[4] || ''];
            items.push(body);
        } else if (leading(line) >= Math.min(indent + 2, depth)) {
            if (hadBlank && !isInside(body))
                isTight = false;
            body.push(dedent(line, depth));
        } else if (hadBlank || startsBlock(lines, end))
            break;
        else
            body.push(line.trimStart());
        hadBlank = false;
    }
    return {
        block: { type: 'list', isOrdered, start: isOrdered ? parseInt(first[2], 10) : 1, isTight, items: items.map(readItem) },
        end: trimEnd(lines, index, end),
    };
}

// Blank lines inside a fence do not make a list loose.
function isInside(body) {
    let open = false;
    for (const line of body) {
        if (/^ *(```|~~~)/.test(line))
            open = !open;
    }
    return open;
}

function readItem(lines) {
    const text = lines.slice(0, trimEnd(lines, 0, lines.length)).join('\n');
    const box = /^\[([ xX])\] (?=\S)/.exec(text);
    return box ? { text: text.slice(4), checked: box[1] !== ' ' } : { text, checked: null };
}

function readTable(lines, index) {
    if (index + 1 >= lines.length || !lines[index].includes('|') || !/^[\s|:-]+$/.test(lines[index + 1]) || !lines[index + 1].includes('-'))
        return null;
    const head = cells(lines[index]);
    const marks = cells(lines[index + 1]);
    if (head.length !== marks.length || head.length > 64 || !marks.every(mark => /^:?-+:?$/.test(mark)))
        return null;
    const rows = [];
    let end = index + 2;
    for (; end < lines.length && lines[end].includes('|') && !blank.test(lines[end]); end++) {
        const row = cells(lines[end]).slice(0, head.length);
        while (row.length < head.length)
            row.push('');
        rows.push(row);
    }
    const align = marks.map(mark => mark.endsWith(':') ? (mark.startsWith(':') ? 'center' : 'right') : null);
    return { block: { type: 'table', align, head, rows }, end };
}

// A bar behind a backslash or inside a code span is text.
function cells(line) {
    const found = [];
    let cell = '', inCode = false;
    const row = line.trim();
    for (let i = row.startsWith('|') ? 1 : 0; i < row.length; i++) {
        if (row[i] === '\\' && row[i + 1] === '|') {
            cell += '|';
            i++;
        } else if (row[i] === '|' && !inCode) {
            found.push(cell.trim());
            cell = '';
        } else {
            if (row[i] === '`')
                inCode = !inCode && row.indexOf('`', i + 1) > 0;
            cell += row[i];
        }
    }
    if (cell.trim().length > 0 || !row.endsWith('|'))
        found.push(cell.trim());
    return found;
}

function readParagraph(lines, index) {
    let end = index + 1;
    while (end < lines.length && !blank.test(lines[end]) && !startsBlock(lines, end))
        end++;
    return { block: { type: 'paragraph', text: lines.slice(index, end).map(line => line.trimStart()).join('\n') }, end };
}

// What may interrupt a paragraph. A numbered list only if it begins with 1, so that a line that starts with a year is not one.
function startsBlock(lines, index) {
    const line = lines[index];
    const bullet = item.exec(line);
    return fence.test(line) || heading.test(line) || rule.test(line) || /^ {0,3}>/.test(line)
        || bullet !== null && bullet[4] !== undefined && (!/\d/.test(bullet[2]) || parseInt(bullet[2], 10) === 1)
        || line.trim().startsWith('\\[') || line.trim() === '$$' || readTable(lines, index) !== null;
}

const leading = line => line.length - line.trimStart().length;

const dedent = (line, count) => line.slice(Math.min(count, leading(line)));

const isAll = (text, mark) => [...text].every(letter => letter === mark);

function trimEnd(lines, start, end) {
    while (end > start + 1 && blank.test(lines[end - 1]))
        end--;
    return end;
}
