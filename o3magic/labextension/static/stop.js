/* A button in the cell that is running, which interrupts the kernel.

Lab calls a cell "running" as soon as it is queued. What really runs is known from the kernel: it
sends `execute_input` when it begins a cell, and an idle `status` for the same request at its end.
Nothing of this enters the notebook: the button is no output and no metadata. */

const ASKS = /^\s*%%?o3(?!\S)/;
const SHOWN_AFTER_MS = 150; // what ends at once shall not flicker
const LOST = new Set(['restarting', 'autorestarting', 'terminating', 'dead', 'unknown']);

const STYLE = `
.o3-StopRail {
  position: absolute;
  z-index: 2;
  /* The column of the prompts below [*], where no text stands. */
  top: calc(var(--jp-cell-padding) + var(--jp-code-font-size) * var(--jp-code-line-height) +
    2 * var(--jp-code-padding) + 6px);
  bottom: 0;
  left: calc(var(--jp-cell-padding) + var(--jp-cell-collapser-width));
  width: var(--jp-cell-prompt-width);
  /* What is too wide for the column grows to its left, away from the text. */
  display: flex;
  align-items: flex-start;
  justify-content: flex-end;
  pointer-events: none;
}
/* A cell that shows nothing has no such column; there it gets a line of its own. */
.jp-mod-noOutputs > .o3-StopRail {
  position: static;
  margin-left: var(--jp-cell-collapser-width);
}
@media only screen and (max-width: 760px) {
  .o3-StopRail {
    top: var(--jp-cell-padding);
    left: auto;
    right: calc(var(--jp-cell-padding) + 4px);
    width: auto;
  }
}
.o3-Stop {
  position: sticky;
  top: 4px;
  box-sizing: border-box;
  margin: 2px 4px;
  padding: 0 4px;
  height: 20px;
  border: var(--jp-border-width) solid var(--jp-border-color1);
  border-radius: var(--jp-border-radius);
  background: var(--jp-layout-color1);
  color: var(--jp-ui-font-color1);
  font-family: var(--jp-ui-font-family);
  font-size: 11px;
  line-height: 1;
  white-space: nowrap;
  cursor: pointer;
  pointer-events: auto;
}
.o3-Stop:hover {
  background: var(--jp-layout-color2);
}
.o3-Stop:focus-visible {
  outline: var(--jp-focus-outline-width) solid var(--jp-focus-outline-color);
}
.o3-Stop:disabled {
  margin-right: 0;
  border-color: transparent;
  color: var(--jp-ui-font-color2);
  cursor: default;
}
@media print {
  .o3-StopRail {
    display: none;
  }
}
`;

/* Watches every notebook of the tracker, those that are open and those to come. */
export function watch(tracker) {
  const style = document.createElement('style');
  style.textContent = STYLE;
  document.head.append(style);
  tracker.forEach(watchPanel);
  tracker.widgetAdded.connect((_, panel) => watchPanel(panel));
}

function watchPanel(panel) {
  const context = panel.sessionContext;
  let running = null; // { request, timer, cell, rail }

  const end = () => {
    if (running !== null) {
      clearTimeout(running.timer);
      takeAway(panel, running.rail);
      running = null;
    }
  };
  const place = () => {
    running.cell = cellOf(panel, running.request);
    if (running.cell) {
      running.rail = stopRail(panel);
      running.cell.node.append(running.rail); // behind the children that Lumino counts
    }
  };

  context.iopubMessage.connect((_, message) => {
    const request = message.parent_header.msg_id;
    const type = message.header.msg_type;
    if (type === 'execute_input') {
      end();
      if (ASKS.test(message.content.code)) {
        running = { request, timer: setTimeout(place, SHOWN_AFTER_MS) };
      }
    } else if (running !== null && running.request === request) {
      if (type === 'status' && message.content.execution_state === 'idle') {
        end();
      } else if (running.cell?.isDisposed) {
        place(); // the cell was moved, and is drawn by another widget now
      }
    }
  });
  context.statusChanged.connect((_, status) => LOST.has(status) && end());
  // The message that ends the cell could get lost with the connection.
  context.connectionStatusChanged.connect((_, status) => status !== 'connected' && end());
  context.kernelChanged.connect(end);
  panel.disposed.connect(end);
}

/* The cell that sent a request, unless another window did. */
function cellOf(panel, request) {
  return panel.content.widgets.find(
    ({ model, outputArea }) =>
      model.type === 'code' && outputArea.future?.msg.header.msg_id === request
  );
}

function stopRail(panel) {
  const rail = document.createElement('div');
  const button = document.createElement('button');
  rail.className = 'o3-StopRail';
  button.className = 'o3-Stop';
  button.type = 'button';
  // Enter and Space are the button's, not the notebook's commands.
  button.dataset.lmSuppressShortcuts = 'true';
  const say = (text, label, disabled) => {
    button.textContent = text;
    button.setAttribute('aria-label', label);
    button.disabled = disabled;
  };
  say('Stop', 'Stop this answer', false);
  button.addEventListener('click', () => {
    const hadFocus = button === document.activeElement;
    button.blur();
    say('Stopping...', 'Stopping this answer', true);
    if (hadFocus) {
      panel.content.activate(); // a disabled button would take the keyboard with it
    }
    const kernel = panel.sessionContext.session?.kernel;
    Promise.resolve(kernel?.interrupt()).catch(error => {
      console.error('o3magic: the kernel could not be interrupted.', error);
      say('Stop', 'Stop this answer', false);
    });
  });
  rail.append(button);
  return rail;
}

function takeAway(panel, rail) {
  const hadFocus = rail?.contains(document.activeElement);
  rail?.remove();
  if (hadFocus && !panel.isDisposed) {
    panel.content.activate();
  }
}
