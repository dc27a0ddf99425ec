// A conversation as a tree of messages: editing or asking again grows a branch beside the old one, and every node remembers which
// of its children is shown. Plain data that a browser can store; nothing here knows the page or the server.
//
// Node: { id, parent, children, chosen, role: 'user' | 'assistant' | 'tool', text, at, … }; of a reply also
//   { thought, thoughtMs, calls: [{ id, name, arguments }], figures, end, fault, model }, of a tool's result { callId, name }.

const root = 'root';

export function newConversation() {
    const now = Date.now();
    return { id: crypto.randomUUID?.() ?? randomId(), title: '', created: now, updated: now, nodes: { [root]: { id: root, parent: null, children: [], chosen: null } } };
}

// crypto.randomUUID is missing where the page came over plain http from another machine.
function randomId() {
    return Array.from(crypto.getRandomValues(new Uint8Array(16)), value => value.toString(16).padStart(2, '0')).join('');
}

// Adds a message below parentId (null: at the start) and shows it.
export function grow(conversation, parentId, fields) {
    const parent = conversation.nodes[parentId ?? root];
    const node = { id: randomId(), parent: parent.id, children: [], chosen: null, text: '', at: Date.now(), ...fields };
    conversation.nodes[node.id] = node;
    parent.children.push(node.id);
    parent.chosen = node.id;
    conversation.updated = Date.now();
    return node;
}

// The messages that are shown, first to last.
export function shown(conversation) {
    const path = [];
    for (let id = conversation.nodes[root].chosen; id; id = conversation.nodes[id].chosen)
        path.push(conversation.nodes[id]);
    return path;
}

// The messages from the start to this one, it included.
export function pathTo(conversation, id) {
    const path = [];
    for (; id && id !== root; id = conversation.nodes[id].parent)
        path.push(conversation.nodes[id]);
    return path.reverse();
}

// Versions of this message, and which of them is shown.
export function versions(conversation, id) {
    const siblings = conversation.nodes[conversation.nodes[id].parent].children;
    return { ids: siblings, index: siblings.indexOf(id) };
}

export function choose(conversation, id) {
    conversation.nodes[conversation.nodes[id].parent].chosen = id;
}

export const parentOf = (conversation, id) => conversation.nodes[id].parent === root ? null : conversation.nodes[id].parent;

// A title from the first words of the first message.
export function titleOf(conversation) {
    if (conversation.title)
        return conversation.title;
    const first = shown(conversation)[0]?.text.replace(/\s+/g, ' ').trim() ?? '';
    return first.length <= 60 ? first : first.slice(0, 60).replace(/\s\S*$/, '') + '…';
}

// The calls of a reply that have no result below them yet.
export function openCalls(conversation, reply) {
    const answered = new Set();
    for (let id = reply.chosen; id && conversation.nodes[id].role === 'tool'; id = conversation.nodes[id].chosen)
        answered.add(conversation.nodes[id].callId);
    return (reply.calls ?? []).filter(call => !answered.has(call.id));
}

// As the API wants it. Reasoning goes back as it came: the server knows which of it the template keeps.
export function toMessages(path, system) {
    const messages = system.trim() ? [{ role: 'system', content: system }] : [];
    for (const node of path) {
        if (node.role === 'user')
            messages.push({ role: 'user', content: node.text });
        else if (node.role === 'tool')
            messages.push({ role: 'tool', tool_call_id: node.callId, content: node.text });
        else {
            const message = { role: 'assistant', content: node.text };
            if (node.thought)
                message.reasoning_content = node.thought;
            if (node.calls?.length)
                message.tool_calls = node.calls.map(call => ({ id: call.id, type: 'function', function: { name: call.name, arguments: call.arguments } }));
            messages.push(message);
        }
    }
    return messages;
}

// The shown branch as a document.
export function toMarkdown(conversation) {
    const parts = [`# ${titleOf(conversation) || 'Conversation'}`];
    for (const node of shown(conversation)) {
        parts.push(node.role === 'user' ? '## You' : node.role === 'tool' ? `## Result of ${node.name}` : '## Reply');
        if (node.text)
            parts.push(node.text);
        for (const call of node.calls ?? [])
            parts.push('```json\n' + JSON.stringify({ tool: call.name, arguments: call.arguments }, null, 2) + '\n```');
    }
    return parts.join('\n\n') + '\n';
}
