// Markdown objects to nodes. A MarkdownView shows a text that grows: blocks whose source is as before keep their nodes, so that a
// selection survives and a long reply costs no more per token than its last block.

import { copyButton, el } from './dom.js';
import { highlight } from './highlight.js';
import { parseInline } from './inline.js';
import { parseBlocks } from './markdown.js';

const deepest = 8;

export class MarkdownView {
    constructor() {
        this.node = el('div', { class: 'prose', dir: 'auto' });
        this.sources = [];
    }

    update(text) {
        const blocks = parseBlocks(text);
        let same = 0;
        while (same < blocks.length && same < this.sources.length && keyOf(blocks[same]) === this.sources[same])
            same++;
        while (this.node.childNodes.length > same)
            this.node.lastChild.remove();
        for (const block of blocks.slice(same))
            this.node.append(blockNode(block, 0));
        this.sources = blocks.map(keyOf);
    }
}

const keyOf = block => block.type + (block.isOpen ? ' open\n' : '\n') + block.source;

function blockNode(block, depth) {
    switch (block.type) {
        case 'heading':
            // The page's own headings come first: a reply's begin at the third level.
            return el('h' + Math.min(block.level + 2, 6), { class: 'h' + block.level }, ...inlineNodes(parseInline(block.text)));
        case 'code':
            return codeNode(block);
        case 'math':
            return el('pre', { class: 'math' }, block.text);
        case 'rule':
            return el('hr');
        case 'quote':
            return el('blockquote', null, ...inside(block.text, depth, false));
        case 'list':
            return listNode(block, depth);
        case 'table':
            return tableNode(block);
        default:
            return el('p', null, ...inlineNodes(parseInline(block.text)));
    }
}

// The blocks of a container; in a tight list's item, paragraphs are bare.
function inside(text, depth, isTight) {
    if (depth >= deepest)
        return [el('p', null, text)];
    return parseBlocks(text).flatMap(block => isTight && block.type === 'paragraph' ? inlineNodes(parseInline(block.text)) : [blockNode(block, depth + 1)]);
}

function listNode(block, depth) {
    const isPlan = block.items.some(item => item.checked !== null);
    const list = el(block.isOrdered ? 'ol' : 'ul', { start: block.isOrdered && block.start !== 1 ? block.start : null, class: isPlan ? 'plan' : null });
    for (const item of block.items) {
        const box = item.checked === null ? null : el('input', { type: 'checkbox', disabled: true, checked: item.checked, 'aria-label': item.checked ? 'done' : 'open' });
        list.append(el('li', null, box, ...inside(item.text, depth, block.isTight)));
    }
    return list;
}

function tableNode(block) {
    const row = (tag, texts) => el('tr', null, ...texts.map((text, i) =>
        el(tag, { class: block.align[i], scope: tag === 'th' ? 'col' : null }, ...inlineNodes(parseInline(text)))));
    return el('div', { class: 'table', tabindex: '0', role: 'region', 'aria-label': 'Table' },
        el('table', null, el('thead', null, row('th', block.head)), el('tbody', null, ...block.rows.map(texts => row('td', texts)))));
}

function codeNode(block) {
    const code = el('code', null, ...highlightNodes(block.text, block.language));
    return el('figure', { class: 'code' },
        el('figcaption', null, el('span', null, block.language || 'text'), copyButton('Copy code', () => block.text)),
        el('pre', { tabindex: '0', dir: 'ltr' }, code));
}

export function highlightNodes(text, language) {
    return highlight(text, language).map(([kind, piece]) => kind === null ? piece : el('span', { class: 'c-' + kind }, piece));
}

function inlineNodes(nodes) {
    return nodes.map(node => {
        switch (node.type) {
            case 'text':
                return node.text;
            case 'code':
                return el('code', null, node.text);
            case 'math':
                return el('span', { class: 'math' }, node.text);
            case 'break':
                return el('br');
            case 'link':
                return el('a', { href: node.href, target: '_blank', rel: 'noopener noreferrer nofollow', title: node.href }, ...inlineNodes(node.children));
            default:
                return el(node.type, null, ...inlineNodes(node.children));
        }
    });
}
