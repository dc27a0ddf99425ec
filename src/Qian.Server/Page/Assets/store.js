// Conversations in the browser's own database, and nowhere else. Two tables: what the list shows, and the trees. When there are
// too many or they grow too large, the oldest go. Where the browser keeps nothing (private windows), they live as long as the page.

const most = 400;
const mostCharacters = 48_000_000;

let opening = null;
const kept = new Map();     // stands in for the database where there is none

function open() {
    opening ??= new Promise(resolve => {
        let request;
        try {
            request = indexedDB.open('qian', 1);
        } catch {
            resolve(null);
            return;
        }
        request.onupgradeneeded = () => {
            request.result.createObjectStore('titles', { keyPath: 'id' });
            request.result.createObjectStore('trees', { keyPath: 'id' });
        };
        request.onsuccess = () => {
            request.result.onversionchange = () => request.result.close();
            resolve(request.result);
        };
        request.onerror = () => resolve(null);
        request.onblocked = () => resolve(null);
    });
    return opening;
}

const answer = request => new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
});

const finished = transaction => new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = transaction.onerror = () => reject(transaction.error);
});

// [{ id, title, updated, size }], newest first.
export async function list() {
    const database = await open();
    const titles = database ? await answer(database.transaction('titles').objectStore('titles').getAll()) : [...kept.values()].map(entry => entry.title);
    return titles.sort((a, b) => b.updated - a.updated);
}

export async function load(id) {
    const database = await open();
    if (!database)
        return kept.has(id) ? structuredClone(kept.get(id).tree) : null;
    const found = await answer(database.transaction('trees').objectStore('trees').get(id));
    return found?.tree ?? null;
}

// Stores a tree under its title; tells how many old ones had to go, or -1 when the browser refused to keep it.
export async function save(tree, title) {
    const entry = { id: tree.id, title, updated: tree.updated, size: sizeOf(tree) };
    const database = await open();
    if (!database) {
        kept.set(tree.id, { title: entry, tree: structuredClone(tree) });
        return 0;
    }
    try {
        await put(database, entry, tree);
    } catch {
        // Most likely the browser's quota: make room once, then say so.
        await trim(mostCharacters / 2, tree.id);
        try {
            await put(database, entry, tree);
        } catch {
            return -1;
        }
    }
    return trim(mostCharacters, tree.id);
}

function put(database, entry, tree) {
    const transaction = database.transaction(['titles', 'trees'], 'readwrite');
    transaction.objectStore('titles').put(entry);
    transaction.objectStore('trees').put({ id: tree.id, tree });
    return finished(transaction);
}

export async function remove(id) {
    const database = await open();
    if (!database) {
        kept.delete(id);
        return;
    }
    const transaction = database.transaction(['titles', 'trees'], 'readwrite');
    transaction.objectStore('titles').delete(id);
    transaction.objectStore('trees').delete(id);
    await finished(transaction);
}

async function trim(limit, keepId) {
    let total = 0, count = 0, gone = 0;
    for (const entry of await list()) {
        total += entry.size;
        count++;
        if (entry.id !== keepId && (count > most || total > limit)) {
            await remove(entry.id);
            gone++;
        }
    }
    return gone;
}

function sizeOf(tree) {
    let size = 200;
    for (const node of Object.values(tree.nodes))
        size += 400 + (node.text?.length ?? 0) + (node.thought?.length ?? 0) + (node.calls ?? []).reduce((sum, call) => sum + call.arguments.length, 0);
    return size;
}
