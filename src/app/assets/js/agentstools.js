// Which tools an agent may use.
export const toolsSection = () => null;
