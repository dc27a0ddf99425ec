// Runs before the first paint, so that nobody who chose dark sees a white flash. The choice itself is made in settings.js.
(function () {
    try {
        const theme = (JSON.parse(localStorage.getItem('qian.settings') || '{}') || {}).theme;
        if (theme === 'light' || theme === 'dark')
            document.documentElement.dataset.theme = theme;
        if (localStorage.getItem('qian.shelf') === 'closed')
            document.documentElement.dataset.shelf = 'closed';
    } catch {
        // Storage is closed to us: the system's theme it is.
    }
})();
