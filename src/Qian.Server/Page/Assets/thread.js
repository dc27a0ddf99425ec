// The messages on the page. Each has a view that is kept as long as it is shown, so that a streaming reply touches its own nodes
// only; what a click means is the app's business (actions).

import { copyButton, el, growToFit, icon, iconButton } from './dom.js';
import { highlightNodes, MarkdownView } from './render.js';
import { figureTexts, timeText } from './reply.js';
import { openCalls, shown, versions } from './tree.js';

export class Thread {
    constructor(list, actions) {
        this.list = list;
        this.actions = actions;
        this.views = new Map();
    }

    // live: the Reply that is being written in this conversation, or null.
    show(conversation, live) {
        const path = shown(conversation);
        const views = new Map();
        for (const node of path) {
            const known = this.views.get(node.id);
            views.set(node.id, known?.node === node ? known : new MessageView(node, this.actions));
        }
        this.views = views;
        let place = this.list.firstChild;
        for (const view of views.values()) {
            if (view.element === place)
                place = place.nextSibling;
            else
                this.list.insertBefore(view.element, place);
        }
        while (place) {
            const next = place.nextSibling;
            place.remove();
            place = next;
        }
        const last = path.at(-1);
        for (const [id, view] of views)
            view.update(conversation, live?.node.id === id ? live : null, last.id === id);
    }

    // The reply that is being written has grown.
    grow(conversation, live) {
        this.views.get(live.node.id)?.update(conversation, live, true);
    }

    edit(id) {
        this.views.get(id)?.edit();
    }
}

class MessageView {
    constructor(node, actions) {
        this.node = node;
        this.actions = actions;
        this.heading = el('h2', { class: 'unseen' }, node.role === 'user' ? 'You' : node.role === 'tool' ? `Result of ${node.name}` : 'Reply');
        this.body = el('div', { class: 'message-body' });
        this.foot = el('div', { class: 'message-foot' });
        this.element = el('li', { class: 'message ' + { user: 'mine', tool: 'result', assistant: 'reply' }[node.role], 'data-id': node.id }, this.heading, this.body, this.foot);
        this.calls = [];
        if (node.role === 'assistant')
            this.#buildReply();
        else
            this.#showText();
    }

    update(conversation, live, isLast) {
        if (this.node.role === 'assistant')
            this.#updateReply(conversation, live);
        this.#updateFoot(conversation, live, isLast);
    }

    // Turns the message into a text field; sending it makes a new branch.
    edit() {
        const area = el('textarea', { rows: 1, 'aria-label': 'Edit the message', class: 'edit-field', oninput: () => growToFit(area) }, this.node.text);
        const close = () => this.#showText();
        const send = () => {
            const text = area.value.trim();
            close();
            if (text.length > 0)
                this.actions.branch(this.node, text);
        };
        area.addEventListener('keydown', event => {
            if (event.key === 'Escape') {
                event.stopPropagation();
                close();
                this.foot.querySelector('button')?.focus();
            } else if (event.key === 'Enter' && !event.shiftKey && !event.isComposing && !matchMedia('(pointer: coarse)').matches) {
                event.preventDefault();
                send();
            }
        });
        this.element.classList.add('editing');
        this.body.replaceChildren(area, el('div', { class: 'edit-row' },
            el('span', { class: 'hint' }, 'The old version is kept beside the new one.'),
            el('button', { type: 'button', class: 'plain', onclick: close }, 'Cancel'),
            el('button', { type: 'button', class: 'solid-button', onclick: send }, 'Send')));
        growToFit(area);
        area.focus();
        area.setSelectionRange(area.value.length, area.value.length);
    }

    #showText() {
        this.element.classList.remove('editing');
        if (this.node.role === 'tool')
            this.body.replaceChildren(el('p', { class: 'result-name' }, icon('tool'), `Result of ${this.node.name}`), el('pre', { tabindex: '0' }, this.node.text));
        else
            this.body.replaceChildren(el('div', { class: 'bubble', dir: 'auto' }, this.node.text));
    }

    #buildReply() {
        this.thoughtLabel = el('span');
        this.thoughtView = new MarkdownView();
        this.thought = el('details', { class: 'thought', hidden: true }, el('summary', null, icon('think'), this.thoughtLabel), this.thoughtView.node);
        this.thought.querySelector('summary').addEventListener('click', () => this.isThoughtChosen = true);
        this.thought.addEventListener('toggle', () => this.#showThought());
        this.view = new MarkdownView();
        this.pulse = el('p', { class: 'pulse', 'aria-hidden': 'true' }, el('span'), el('span'), el('span'));
        this.callList = el('div', { class: 'calls' });
        this.notice = el('div', { class: 'notice', hidden: true });
        this.body.append(this.thought, this.view.node, this.callList, this.pulse, this.notice);
    }

    #updateReply(conversation, live) {
        const node = this.node;
        const isThinking = live?.phase === 'thinking';
        this.element.setAttribute('aria-busy', String(live !== null));
        this.thought.hidden = !node.thought;
        if (node.thought) {
            const span = node.thoughtMs === undefined ? '' : ` for ${timeText(node.thoughtMs)}`;
            this.thoughtLabel.textContent = isThinking ? 'Thinking' : `Thought${span}`;
            this.thought.classList.toggle('active', isThinking);
            // Open while it goes on, closed when the answer begins, unless the reader has chosen.
            if (!this.isThoughtChosen && this.thought.open !== isThinking)
                this.thought.open = isThinking;
            this.#showThought();
        }
        this.view.update(node.text);
        this.view.node.classList.toggle('growing', live?.phase === 'writing');
        this.pulse.hidden = live?.phase !== 'waiting';
        this.#updateCalls(conversation, live);
        this.#updateNotice(live);
    }

    #showThought() {
        if (this.thought.open)
            this.thoughtView.update(this.node.thought);
    }

    #updateCalls(conversation, live) {
        const calls = this.node.calls ?? [];
        const open = live ? [] : openCalls(conversation, this.node);
        calls.forEach((call, i) => {
            const state = `${call.name} ${call.arguments.length} ${open.includes(call)}`;
            if (this.calls[i]?.state === state)
                return;
            const element = this.#callNode(call, open.includes(call));
            if (this.calls[i])
                this.calls[i].element.replaceWith(element);
            else
                this.callList.append(element);
            this.calls[i] = { state, element };
        });
    }

    #callNode(call, isOpen) {
        const text = pretty(call.arguments);
        const card = el('section', { class: 'call', 'aria-label': `Call of ${call.name}` },
            el('header', null, icon('tool'), el('span', { class: 'call-name' }, call.name), el('span', { class: 'hint' }, isOpen ? 'waits for its result' : ''), copyButton('Copy the arguments', () => text)),
            text && text !== '{}' ? el('pre', { tabindex: '0', dir: 'ltr' }, el('code', null, ...highlightNodes(text, 'json'))) : null);
        if (isOpen) {
            const area = el('textarea', { rows: 1, placeholder: 'What the tool returns', 'aria-label': `Result of ${call.name}`, class: 'mono', oninput: () => growToFit(area) });
            card.append(el('form', {
                class: 'call-form', onsubmit: event => {
                    event.preventDefault();
                    this.actions.giveResult(this.node, call, area.value);
                },
            }, area, el('button', { type: 'submit', class: 'solid-button' }, 'Send result')));
        }
        return card;
    }

    #updateNotice(live) {
        const { end, fault } = this.node;
        const text = live ? ''
            : end === 'failed' ? fault.message
            : end === 'length' ? 'Cut at the length limit.'
            : end === 'context' ? 'Cut: the context is full.'
            : end === 'repetition' ? 'Ended: it went round in circles.'
            : end === 'stopped' ? 'Stopped.'
            : end === 'stop' && !this.node.text && !this.node.calls?.length ? 'The model said nothing.'
            : end && !['stop', 'tool_calls'].includes(end) ? `Ended: ${end}.` : '';
        this.notice.hidden = text === '';
        if (this.notice.dataset.text === text)
            return;
        this.notice.dataset.text = text;
        this.notice.classList.toggle('bad', end === 'failed');
        this.notice.replaceChildren(el('span', null, text), end === 'failed'
            ? el('button', { type: 'button', class: 'plain', onclick: () => this.actions.regenerate(this.node) }, fault.retryAfter ? `Try again in ${fault.retryAfter} s` : 'Try again') : '');
    }

    #updateFoot(conversation, live, isLast) {
        const node = this.node;
        const { ids, index } = versions(conversation, node.id);
        const state = `${live !== null} ${ids.length} ${index} ${isLast} ${JSON.stringify(node.figures)}`;
        this.element.classList.toggle('last', isLast);
        if (this.foot.dataset.state === state)
            return;
        this.foot.dataset.state = state;
        const parts = [];
        if (!live) {
            if (ids.length > 1) {
                parts.push(el('span', { class: 'versions', role: 'group', 'aria-label': 'Versions' },
                    iconButton('prev', 'Previous version', () => this.actions.show(ids[index - 1]), { disabled: index === 0 }),
                    el('span', { class: 'version-count' }, `${index + 1} / ${ids.length}`),
                    iconButton('next', 'Next version', () => this.actions.show(ids[index + 1]), { disabled: index === ids.length - 1 })));
            }
            if (node.text)
                parts.push(copyButton('Copy', () => node.text));
            if (node.role === 'user')
                parts.push(iconButton('edit', 'Edit', () => this.edit()));
            if (node.role === 'assistant') {
                parts.push(iconButton('redo', 'Ask again', () => this.actions.regenerate(node)));
                if (node.figures)
                    parts.push(el('span', { class: 'figures' }, ...figureTexts(node.figures).map(text => el('span', null, text))));
            }
        }
        const focused = this.foot.contains(document.activeElement) ? document.activeElement.getAttribute('aria-label') : null;
        this.foot.replaceChildren(...parts);
        if (focused)
            [...this.foot.querySelectorAll('button:not(:disabled)')].sort((a, b) => (b.getAttribute('aria-label') === focused) - (a.getAttribute('aria-label') === focused))[0]?.focus();
    }
}

// Arguments as they came, set out if they are whole.
function pretty(text) {
    try {
        return JSON.stringify(JSON.parse(text), null, 2);
    } catch {
        return text;
    }
}
