// The page put together: which conversation is open, which replies run, what a click or a key means.

import { ApiFault, getKey, models, setKey } from './api.js';
import { announce, byId, el, growToFit, icon, toast } from './dom.js';
import { countText, Reply, speedText, waitInWords } from './reply.js';
import { buildSheet, keep, readTools, requestFields, reset, settings } from './settings.js';
import { Shelf } from './shelf.js';
import * as store from './store.js';
import { Thread } from './thread.js';
import * as tree from './tree.js';

const starters = [
    'Write a C# method that returns the largest element of an int array.',
    'Explain what a mutex is, and when not to use one.',
    'Find the bug: for (int i = 0; i <= n; i++) sum += a[i];',
];

const draft = byId('draft');
const scroll = byId('scroll');
const running = new Map();      // conversation id to Reply
let conversation = tree.newConversation();
let servedModels = [];
let sticks = true;
let frame = 0, nextDraw = 0, nextSave = 0;

const shelf = new Shelf(openConversation);
const thread = new Thread(byId('thread'), {
    branch: (node, text) => ask(tree.parentOf(conversation, node.id), text),
    regenerate: node => begin(node.parent),
    show: id => {
        tree.choose(conversation, id);
        draw();
        persist(conversation);
    },
    giveResult: (node, call, text) => {
        let last = node;
        while (last.chosen && conversation.nodes[last.chosen].role === 'tool')
            last = conversation.nodes[last.chosen];
        const result = tree.grow(conversation, last.id, { role: 'tool', callId: call.id, name: call.name, text });
        if (tree.openCalls(conversation, node).length === 0)
            begin(result.id);
        else
            draw();
    },
});

// Replies

function ask(parentId, text) {
    const node = tree.grow(conversation, parentId, { role: 'user', text });
    begin(node.id);
}

async function begin(parentId) {
    const own = conversation;
    running.get(own.id)?.stop();
    const path = tree.pathTo(own, parentId);
    const body = { messages: tree.toMessages(path, settings.system), ...requestFields() };
    const node = tree.grow(own, parentId, { role: 'assistant' });
    const reply = new Reply(own, node, changed);
    running.set(own.id, reply);
    remember(own.id);
    sticks = true;
    draw();
    persist(own);
    announce('The model is working');
    await reply.run(body);
    if (running.get(own.id) === reply)
        running.delete(own.id);
    await persist(own);
    if (own === conversation)
        draw();
    if (node.end === 'failed' && node.fault.status === 401)
        askForKey(true);
    announce(node.end === 'failed' ? node.fault.message : node.calls?.length ? `The model calls ${node.calls.map(call => call.name).join(', ')}` : spoken(node));
}

const spoken = node => node.end === 'stopped' ? 'Stopped' : `Reply: ${node.text.slice(0, 1500)}`;

// Draws at most once a frame, and never spends more than a quarter of the time on drawing.
function changed(reply) {
    const now = performance.now();
    if (now > nextSave) {
        nextSave = now + 4000;
        persist(reply.conversation);
    }
    if (reply.conversation === conversation && frame === 0)
        frame = requestAnimationFrame(drawLive);
}

function drawLive() {
    frame = 0;
    const reply = running.get(conversation.id);
    if (!reply)
        return;
    const start = performance.now();
    if (start < nextDraw && reply.phase !== 'over') {
        frame = requestAnimationFrame(drawLive);
        return;
    }
    thread.grow(conversation, reply);
    drawStatus(reply);
    follow();
    nextDraw = performance.now() + 3 * (performance.now() - start);
}

// The page

function draw() {
    const reply = running.get(conversation.id) ?? null;
    thread.show(conversation, reply);
    const isEmpty = tree.shown(conversation).length === 0;
    byId('empty').hidden = !isEmpty;
    byId('menu-rename').disabled = byId('menu-save').disabled = byId('menu-delete').disabled = isEmpty;
    const title = tree.titleOf(conversation);
    byId('title').textContent = title || 'New conversation';
    document.title = title ? `${title} · Qian` : 'Qian';
    drawStatus(reply);
    drawSend();
    follow();
}

function drawStatus(reply) {
    const model = servedModels.find(one => one.id === settings.model) ?? servedModels[0];
    const words = { thinking: 'Thinking', writing: 'Writing', calling: 'Calling a tool' };
    const speed = reply?.speed();
    byId('status-text').textContent = !reply ? model?.id ?? '' : (words[reply.phase] ?? waitInWords(reply.wait)) + (speed ? ` · ${speedText(speed)}` : '');
    const last = tree.shown(conversation).findLast(node => node.figures?.promptCount);
    const used = last ? last.figures.promptCount + last.figures.outputCount : 0;
    byId('context').hidden = !used || !model?.contextLength;
    if (used && model?.contextLength) {
        byId('context-text').textContent = `${countText(used)} of ${countText(model.contextLength)}`;
        byId('context-bar').value = Math.min(1, used / model.contextLength);
        byId('context').title = 'Tokens of the context in use';
    }
}

function drawSend() {
    const isRunning = running.has(conversation.id);
    const button = byId('send');
    const label = isRunning ? 'Stop' : 'Send';
    button.disabled = !isRunning && draft.value.trim() === '';
    if (button.title !== label || !button.firstChild) {
        button.title = label;
        button.setAttribute('aria-label', label);
        button.replaceChildren(icon(isRunning ? 'stop' : 'send'));
    }
}

function follow() {
    if (sticks)
        scroll.scrollTop = scroll.scrollHeight;
}

scroll.addEventListener('scroll', () => {
    const isAtEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 48;
    sticks = isAtEnd;
    byId('to-end').hidden = isAtEnd;
}, { passive: true });

new ResizeObserver(follow).observe(scroll);

byId('to-end').addEventListener('click', () => {
    sticks = true;
    scroll.scrollTo({ top: scroll.scrollHeight, behavior: matchMedia('(prefers-reduced-motion: reduce)').matches ? 'auto' : 'smooth' });
});

// Conversations

async function persist(own) {
    if (tree.shown(own).length === 0 || own.isGone)
        return;
    const gone = await store.save(own, tree.titleOf(own));
    if (gone < 0)
        toast('The browser has no room left: this conversation is not kept.');
    else if (gone > 0)
        toast(gone === 1 ? 'The oldest conversation was removed to make room.' : `${gone} old conversations were removed to make room.`);
    await drawShelf();
}

async function drawShelf() {
    shelf.show(await store.list(), conversation.id, running);
}

async function openConversation(id) {
    shelf.leave();
    if (id !== conversation.id) {
        const found = running.get(id)?.conversation ?? await store.load(id);
        if (!found) {
            toast('That conversation is gone.');
            await drawShelf();
            return;
        }
        show(found);
    }
    draft.focus();
}

function show(found) {
    conversation = found;
    // What was being written when the page went away was cut.
    for (const node of Object.values(found.nodes)) {
        if (node.role === 'assistant' && !node.end && running.get(found.id)?.node !== node)
            node.end = 'stopped';
    }
    remember(found.id);
    sticks = true;
    draw();
    drawShelf();
}

function remember(id) {
    try {
        sessionStorage.setItem('qian.open', id);
    } catch {
        // A reload begins anew, then.
    }
}

function startAnew() {
    shelf.leave();
    show(tree.newConversation());
    draft.focus();
}

async function removeCurrent() {
    const old = conversation;
    running.get(old.id)?.stop();
    old.isGone = true;
    await store.remove(old.id);
    startAnew();
    toast('Conversation deleted.', 'Undo', async () => {
        delete old.isGone;
        await persist(old);
        show(old);
    });
}

function saveAsMarkdown() {
    const link = el('a', { href: URL.createObjectURL(new Blob([tree.toMarkdown(conversation)], { type: 'text/markdown' })), download: 'conversation.md' });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// Composer

byId('composer').addEventListener('submit', event => {
    event.preventDefault();
    const reply = running.get(conversation.id);
    if (reply) {
        reply.stop();
        return;
    }
    const text = draft.value.trim();
    if (text === '')
        return;
    const fault = readTools(settings.tools).fault;
    if (fault) {
        toast(`The tools in the settings cannot be read: ${fault}`);
        return;
    }
    draft.value = '';
    growToFit(draft);
    ask(tree.shown(conversation).at(-1)?.id ?? null, text);
});

draft.addEventListener('input', () => {
    growToFit(draft);
    drawSend();
});

draft.addEventListener('keydown', event => {
    // Enter that ends the choice of a Chinese or Japanese word is not meant for us.
    if (event.isComposing || event.keyCode === 229)
        return;
    if (event.key === 'Enter' && !event.shiftKey && !matchMedia('(pointer: coarse)').matches) {
        event.preventDefault();
        if (!running.has(conversation.id))
            byId('composer').requestSubmit();
    } else if (event.key === 'ArrowUp' && draft.value === '') {
        const mine = tree.shown(conversation).findLast(node => node.role === 'user');
        if (mine) {
            event.preventDefault();
            thread.edit(mine.id);
        }
    }
});

function setThinking(isOn) {
    settings.think = isOn;
    keep();
    byId('think').setAttribute('aria-pressed', String(isOn));
}

byId('think').addEventListener('click', () => setThinking(!settings.think));

document.addEventListener('keydown', event => {
    const isTyping = /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement?.tagName ?? '');
    const isCovered = document.querySelector('dialog[open]') !== null;
    if (event.isComposing || isCovered || event.ctrlKey || event.metaKey)
        return;
    if (event.key === 'Escape' && shelf.isDrawerOpen)
        shelf.toggle(false);
    else if (event.key === 'Escape')
        running.get(conversation.id)?.stop();
    else if (event.altKey && event.code === 'KeyN')
        startAnew();
    else if (event.altKey && event.code === 'KeyT')
        setThinking(!settings.think);
    else if (event.key === '/' && !isTyping)
        draft.focus();
    else if (event.key === '?' && !isTyping)
        byId('keys-dialog').showModal();
    else
        return;
    event.preventDefault();
});

// Dialogs and menu

for (const dialog of document.querySelectorAll('dialog')) {
    for (const button of dialog.querySelectorAll('[data-close]'))
        button.addEventListener('click', () => dialog.close());
    dialog.addEventListener('click', event => {
        if (event.target === dialog)
            dialog.close();
    });
}

byId('settings-open').addEventListener('click', () => {
    byId('settings').showModal();
    buildSheet();
});
byId('settings-reset').addEventListener('click', reset);
byId('new-chat').addEventListener('click', startAnew);
byId('bar-new').addEventListener('click', startAnew);
byId('menu').addEventListener('click', event => event.target.closest('button') && byId('menu').hidePopover());
byId('menu-delete').addEventListener('click', removeCurrent);
byId('menu-save').addEventListener('click', saveAsMarkdown);
byId('menu-keys').addEventListener('click', () => byId('keys-dialog').showModal());
byId('menu-key').addEventListener('click', () => askForKey(false));
byId('menu-rename').addEventListener('click', () => {
    byId('rename-field').value = tree.titleOf(conversation);
    byId('rename-dialog').showModal();
    byId('rename-field').select();
});
byId('rename-form').addEventListener('submit', event => {
    event.preventDefault();
    conversation.title = byId('rename-field').value.trim();
    byId('rename-dialog').close();
    draw();
    persist(conversation);
});

function askForKey(isWrong) {
    byId('key-wrong').textContent = isWrong && getKey() ? 'That key was not accepted.' : '';
    if (!byId('key-dialog').open)
        byId('key-dialog').showModal();
}

byId('key-form').addEventListener('submit', async event => {
    event.preventDefault();
    try {
        setKey(byId('key-field').value.trim());
    } catch (error) {
        byId('key-wrong').textContent = error.message;
        return;
    }
    byId('key-field').value = '';
    byId('key-dialog').close();
    await meetServer();
});

// Start

async function meetServer() {
    try {
        servedModels = await models();
        drawChoices();
        byId('menu-key').hidden = !getKey();
        byId('empty-model').textContent = servedModels[0]?.id ?? '';
        drawStatus(running.get(conversation.id) ?? null);
    } catch (error) {
        if (error instanceof ApiFault && error.status === 401)
            askForKey(true);
        else
            toast(error.message, 'Try again', meetServer);
    }
}

// A list appears where there is something to choose.
function drawChoices() {
    if (!servedModels.some(model => model.id === settings.model))
        settings.model = '';
    byId('choices').replaceChildren(servedModels.length < 2 ? '' : el('select', {
        'aria-label': 'Model', title: 'Model', onchange: event => {
            settings.model = event.target.value;
            keep();
            drawStatus(running.get(conversation.id) ?? null);
        },
    }, ...servedModels.map((model, i) => el('option', { value: model.id, selected: settings.model ? settings.model === model.id : i === 0 }, model.isAdapter ? `+ ${model.id}` : model.id))));
}

byId('starters').append(...starters.map(text => el('li', null, el('button', {
    type: 'button', onclick: () => {
        draft.value = text;
        growToFit(draft);
        drawSend();
        draft.focus();
    },
}, text))));

setThinking(settings.think);
draw();
drawShelf();
await meetServer();
let before = null;
try {
    before = sessionStorage.getItem('qian.open');
} catch {
    // Nothing to come back to.
}
const left = before && await store.load(before);
if (left)
    show(left);
if (!matchMedia('(pointer: coarse)').matches && !document.querySelector('dialog[open]'))
    draft.focus();
